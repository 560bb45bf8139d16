import { emptyDigest } from "../domain/digest.ts";
import { type JobId, type TaskId, workerId as toWorkerId } from "../domain/ids.ts";
import type { Outcome } from "../domain/job.ts";
import { createScheduler, type Scheduler } from "../actors/scheduler_actor.ts";
import { createWorker, type Effects, type ReportEffect } from "../actors/worker_actor.ts";
import { silentLog } from "../observability/log.ts";
import { type JobView, parseAnswer, type SchedulerRequest, type TaskView } from "../protocol/client_messages.ts";
import { protocolVersion } from "../protocol/version.ts";
import { type Random, seededRandom } from "../runtime/random.ts";
import { memoryStates } from "../snapshots/states/memory.ts";
import type { Entry, States } from "../snapshots/states/states.ts";
import { keepDialing } from "../transport/redial.ts";
import type { Connection, Hello } from "../transport/transport.ts";
import { type Planted, simulatedDisk } from "./disk.ts";
import { calm, type NetworkFaults, simulatedNetwork } from "./network.ts";
import { type Life, newLife, virtualTime } from "./time.ts";
import { type Mark, type PlannedJob, pretendDigest, pretendedExit, workload } from "./workload.ts";

export interface SimulationOptions {
  readonly seed: number;
  readonly workers?: number;
  readonly jobs?: number;
  /** Of the phase in which things go wrong; then all is calm, and everything must finish. */
  readonly faultsForMs?: number;
  readonly planted?: Planted;
}

/** What a run leaves for the checkers. */
export interface History {
  readonly seed: number;
  readonly jobs: readonly {
    readonly planned: PlannedJob;
    readonly jobId: JobId | undefined;
    readonly killed: boolean;
    readonly view: JobView | undefined;
    readonly tasks: readonly TaskView[];
  }[];
  readonly marks: readonly Mark[];
  /** Every saved step of the tasks, in order. */
  readonly entries: readonly Entry[];
  readonly schedulerStarts: number;
  readonly workerStarts: number;
  readonly messages: number;
  readonly virtualMs: number;
}

const stormy: NetworkFaults = { drop: 10, double: 20, delay: 60, cut: 4 };
/** Of messages, in thousandths: a process dies when one arrives. */
const crashes = 30;
const calmForMs = 15 * 60_000;
const lostAfterMs = 10_000;

/**
 * Runs a whole cluster in one process on virtual time: the real machines, hosts, scheduler, worker protocol and transport;
 * pretended are time, chance, disks, the network and the commands. The same seed gives the same history.
 */
export async function simulate(options: SimulationOptions): Promise<History> {
  const { seed, workers: workerCount = 3, jobs: jobCount = 16, faultsForMs = 40_000, planted = "none" } = options;
  const random = seededRandom(seed);
  const time = virtualTime();
  const startMs = time.now();
  let isStormy = true;
  let messages = 0;
  const processes: Process[] = [];
  const network = simulatedNetwork(
    time,
    seededRandom(random.integer(2 ** 32)),
    () => (isStormy ? stormy : calm),
    () => {
      messages++;
      if (isStormy && random.integer(1_000) < crashes) {
        processes[
          random.integer(2) === 0 ? 0 : random.integer(processes.length)
        ]!.crash();
      }
    },
  );
  const marks: Mark[] = [];

  interface Process {
    crash(): void;
    readonly starts: number;
  }
  /** A process that starts again some time after each crash. */
  const keepAlive = (start: (life: Life, chance: Random) => void): Process => {
    let starts = 0;
    let life: Life;
    const begin = (): void => {
      starts++;
      life = newLife(time);
      start(life, seededRandom(random.integer(2 ** 32)));
    };
    begin();
    return {
      get starts() {
        return starts;
      },
      crash() {
        if (!life.isAlive) return;
        life.kill();
        time.at(time.now() + 50 + random.integer(2_500), begin);
      },
    };
  };
  const hello = (role: Hello["role"], memberId: string, chance: Random): Hello => ({
    protocol: "scoot-actors",
    version: protocolVersion,
    role,
    memberId,
    incarnation: `i${chance.integer(2 ** 32)}`,
  });

  const schedulerDisk = memoryStates();
  processes.push(keepAlive((life, chance) => {
    const scheduler = createScheduler({
      states: simulatedDisk(schedulerDisk, life, time, chance, planted),
      clock: life,
      random: chance,
      log: silentLog,
      defer: life.soon,
      lostAfterMs,
      keepJobsMs: 24 * 3_600_000,
      keepJobsMax: 10_000,
      hasSpace: () => true,
      stepsPerTurn: 1,
    });
    void scheduler.start().then(async () => {
      if (!life.isAlive) return;
      const listener = await network.transport.listen({
        name: "scheduler",
        hello: hello("scheduler", "scheduler", chance),
        roles: ["worker", "gateway"],
        onConnection: (connection) => attach(scheduler, network.end(connection, life)),
      });
      life.onKill(() => void listener.close());
    });
  }));
  const attach = (scheduler: Scheduler, connection: Connection): void =>
    connection.peer.role === "worker" ? scheduler.attachWorker(connection) : scheduler.attachGateway(connection);

  const startWorker = (life: Life, chance: Random, name: string, disk: States): void => {
    const worker = createWorker({
      description: {
        workerId: toWorkerId(name),
        incarnation: `i${chance.integer(2 ** 32)}`,
        slots: 2,
        platform: {},
        isolation: "simulated",
      },
      states: simulatedDisk(disk, life, time, chance, planted === "ignoreEpoch" ? "none" : planted),
      clock: life,
      log: silentLog,
      defer: life.soon,
      effects: (report) => pretendedEffects(life, chance, name, marks, report),
    });
    let number = 0;
    /** As a worker that does not look at epochs would hear it: all that comes is new. */
    const asIfNew = (message: unknown): unknown =>
      planted === "ignoreEpoch" ? { ...(message as object), epoch: 1, number: ++number } : message;
    const ownHello = hello("worker", name, chance);
    void worker.start().then(() => {
      if (!life.isAlive) return;
      void keepDialing({
        dial: (signal) => network.transport.dial("memory:scheduler", { hello: ownHello, signal }),
        onConnection: (connection) => worker.attachScheduler(network.end(connection, life, asIfNew)),
        clock: life,
        random: chance,
        signal: new AbortController().signal,
      });
    });
  };

  for (let number = 1; number <= workerCount; number++) {
    const disk = memoryStates();
    processes.push(keepAlive((life, chance) => startWorker(life, chance, `w${number}`, disk)));
  }

  // The client asks until it is answered, as a gateway on behalf of its users does.
  const planned = workload(random, jobCount, startMs + 1_000, Math.floor(faultsForMs / 2));
  const known = planned.map((one) => ({
    planned: one,
    jobId: undefined as JobId | undefined,
    killed: false,
    view: undefined as JobView | undefined,
    tasks: [] as readonly TaskView[],
  }));
  const client = newLife(time);
  let connection: Connection | undefined;
  let lastId = 0;
  const waiting = new Map<number, (body: unknown) => void>();
  void keepDialing({
    dial: (signal) => network.transport.dial("memory:scheduler", { hello: hello("gateway", "client", random), signal }),
    onConnection: (next) => {
      connection = next;
      next.onMessage((message) => {
        const { re, body } = parseAnswer(message);
        if (re !== undefined) waiting.get(re)?.(body);
      });
    },
    clock: client,
    random: seededRandom(random.integer(2 ** 32)),
    signal: new AbortController().signal,
  });
  const ask = (
    body: SchedulerRequest,
    heard: (answer: { readonly type: string; readonly [field: string]: unknown }) => void,
  ): void => {
    let isAnswered = false;
    const again = (): void => {
      if (isAnswered) return;
      const id = ++lastId;
      waiting.set(id, (answer) => {
        if (isAnswered) return;
        isAnswered = true;
        heard(answer as { type: string });
      });
      connection?.send({ id, sentAtMs: time.now(), body });
      time.at(time.now() + 2_000, again);
    };
    again();
  };
  for (const one of known) {
    time.at(one.planned.submitAtMs, () =>
      ask({ type: "job.accept", job: one.planned.job }, (answer) => {
        one.jobId = answer["jobId"] as JobId;
        if (one.planned.killAtMs === undefined) return;
        time.at(one.planned.killAtMs, () =>
          ask({ type: "job.kill", jobId: one.jobId!, reason: "the simulation said so" }, () =>
            void (one.killed = true)));
      }));
  }
  const poll = (one: (typeof known)[number]): void =>
    ask({ type: "job.get", jobId: one.jobId! }, (answer) => {
      if (answer.type !== "job.view") return;
      one.view = answer["job"] as JobView;
      one.tasks = answer["tasks"] as readonly TaskView[];
    });

  await time.run(startMs + faultsForMs, () => false);
  isStormy = false;
  const deadlineMs = time.now() + calmForMs;
  const isOver = (one: (typeof known)[number]): boolean => one.view !== undefined && one.view.state !== "running";
  while (time.now() < deadlineMs && !known.every(isOver)) {
    for (const one of known) if (one.jobId !== undefined && !isOver(one)) poll(one);
    await time.run(time.now() + 5_000, () => known.every(isOver));
  }
  const entries: Entry[] = [];
  for await (const entry of schedulerDisk.history("task/")) entries.push(entry);
  return {
    seed,
    jobs: known,
    marks,
    entries,
    schedulerStarts: processes[0]!.starts,
    workerStarts: processes.slice(1).reduce((sum, process) => sum + process.starts, 0),
    messages,
    virtualMs: time.now() - startMs,
  };
}

/** Checkout, run and capture that take their time and touch nothing; each run leaves a mark. */
function pretendedEffects(life: Life, chance: Random, workerId: string, marks: Mark[], report: ReportEffect): Effects {
  const stops = new Map<string, (reason: string) => void>();
  const key = (taskId: TaskId, attempt: number): string => `${taskId}#${attempt}`;
  return {
    run({ taskId, attempt, command }) {
      const finish = (ending: Outcome): void => {
        stops.delete(key(taskId, attempt));
        report(taskId, attempt, { type: "attempt.finished", ending });
      };
      let cancel = life.at(life.now() + chance.integer(200), () => {
        const startedAtMs = life.now();
        marks.push({ taskId, attempt, workerId, atMs: startedAtMs });
        report(taskId, attempt, { type: "attempt.started", atMs: startedAtMs });
        cancel = life.at(
          startedAtMs + chance.integer(6_000),
          () => finish({ kind: "exited", exitCode: pretendedExit(command), startedAtMs, endedAtMs: life.now() }),
        );
      });
      stops.set(key(taskId, attempt), (reason) => {
        cancel();
        finish({ kind: "killed", reason });
      });
    },
    stop: (taskId, attempt, reason) => stops.get(key(taskId, attempt))?.(reason),
    capture: ({ taskId, attempt }) =>
      void life.at(
        life.now() + chance.integer(100),
        () =>
          report(taskId, attempt, {
            type: "attempt.captured",
            leavings: { output: attempt > 0 ? pretendDigest(`output of ${taskId}`) : emptyDigest },
          }),
      ),
    clean: () => {},
  };
}
