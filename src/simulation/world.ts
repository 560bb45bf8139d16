import { emptyDigest } from "../domain/digest.ts";
import { type JobId, type TaskId, workerId as toWorkerId } from "../domain/ids.ts";
import type { Outcome } from "../domain/job.ts";
import { createScheduler, type Scheduler } from "../actors/scheduler_actor.ts";
import { createWorker, type Effects, type ReportEffect } from "../actors/worker_actor.ts";
import { silentLog } from "../observability/log.ts";
import {
  type JobView,
  parseAnswer,
  type Push,
  type SchedulerRequest,
  type TaskView,
} from "../protocol/client_messages.ts";
import { protocolVersion } from "../protocol/version.ts";
import { type Random, seededRandom } from "../runtime/random.ts";
import { memoryStates } from "../snapshots/states/memory.ts";
import type { Entry, States } from "../snapshots/states/states.ts";
import { keepDialing } from "../transport/redial.ts";
import type { Connection, Hello } from "../transport/transport.ts";
import { type Planted, simulatedDisk } from "./disk.ts";
import { calm, type NetworkFaults, simulatedNetwork } from "./network.ts";
import { type Life, newLife, virtualTime } from "./time.ts";
import { simulatedSettings } from "./policies.ts";
import { type KeptResults, simulatedResults } from "./results.ts";
import {
  largeWorkerMemoryBytes,
  type Mark,
  type PlannedJob,
  pretendDigest,
  pretendedExit,
  workerMemoryBytes,
  workload,
} from "./workload.ts";

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
  /** Every saved step of the scheduler itself, the tasks and the workers, in order. */
  readonly entries: readonly Entry[];
  readonly slotsOfEach: number;
  /** How often processes were asked to stop, and how often disks were full. */
  readonly stops: number;
  readonly fullDisks: number;
  readonly schedulerStarts: number;
  readonly workerStarts: number;
  readonly messages: number;
  readonly virtualMs: number;
}

const stormy: NetworkFaults = { drop: 10, double: 20, delay: 60, cut: 4 };
/** Of messages, in thousandths: a process dies when one arrives. */
const crashes = 30;
/** While it is stormy, so many processes are asked to stop in good order. */
const stopsMax = 4;
const slots = 2;
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
    /** Asks it to stop in good order; it may crash over that. */
    stop(): void;
    readonly starts: number;
  }
  /** A process that starts again some time after each crash and each stop; `start` gives what stops it. */
  const keepAlive = (start: (life: Life, chance: Random) => () => Promise<void>): Process => {
    let starts = 0;
    let life: Life;
    let stop: () => Promise<void>;
    let isStopping = false;
    const begin = (): void => {
      starts++;
      isStopping = false;
      life = newLife(time);
      stop = start(life, seededRandom(random.integer(2 ** 32)));
      // Not every start comes to its end.
      if (isStormy && random.integer(6) === 0) time.at(time.now() + random.integer(60), self.crash);
    };
    const self: Process = {
      get starts() {
        return starts;
      },
      crash() {
        if (!life.isAlive) return;
        life.kill();
        time.at(time.now() + 50 + random.integer(2_500), begin);
      },
      stop() {
        if (isStopping || !life.isAlive) return;
        isStopping = true;
        const stopped = life;
        void stop().then(() => {
          if (life === stopped) self.crash(); // it has nothing more to lose
        });
      },
    };
    begin();
    return self;
  };
  let fullDisks = 0;
  /** Some disks are full for a while. */
  const fullFrom = (oneIn: number): () => boolean => {
    if (random.integer(oneIn) !== 0) return () => false;
    fullDisks++;
    const fromMs = startMs + random.integer(faultsForMs);
    const toMs = Math.min(fromMs + random.integer(6_000), startMs + faultsForMs);
    return () => time.now() >= fromMs && time.now() < toMs;
  };
  const sleeps = (life: Life, ms: number): Promise<void> =>
    new Promise((resolve) => void life.at(life.now() + ms, resolve));
  const hello = (role: Hello["role"], memberId: string, chance: Random): Hello => ({
    protocol: "scoot-actors",
    version: protocolVersion,
    role,
    memberId,
    incarnation: `i${chance.integer(2 ** 32)}`,
  });

  const schedulerDisk = memoryStates();
  const keptResults: KeptResults = new Map();
  const isSchedulerDiskFull = fullFrom(3);
  processes.push(keepAlive((life, chance) => {
    const scheduler = createScheduler({
      states: simulatedDisk(schedulerDisk, life, time, chance, planted, isSchedulerDiskFull),
      clock: life,
      random: chance,
      log: silentLog,
      defer: life.soon,
      lostAfterMs,
      keepJobsMs: 24 * 3_600_000,
      keepJobsMax: 10_000,
      keepTasksMax: 1_000_000,
      hasSpace: () => true,
      results: simulatedResults(keptResults, life, chance),
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
    return async () => {
      await scheduler.drain("the simulation stops it");
      await sleeps(life, random.integer(4_000));
      await scheduler.putBack("the simulation stops it");
      await sleeps(life, random.integer(1_000));
      await scheduler.stop();
    };
  }));
  const attach = (scheduler: Scheduler, connection: Connection): void =>
    connection.peer.role === "worker" ? scheduler.attachWorker(connection) : scheduler.attachGateway(connection);

  const startWorker = (
    life: Life,
    chance: Random,
    name: string,
    disk: States,
    isFull: () => boolean,
  ): () => Promise<void> => {
    const worker = createWorker({
      description: {
        workerId: toWorkerId(name),
        incarnation: `i${chance.integer(2 ** 32)}`,
        slots,
        platform: {},
        memoryBytes: chance.integer(4) === 0 ? largeWorkerMemoryBytes : workerMemoryBytes,
        isolation: "simulated",
      },
      states: simulatedDisk(disk, life, time, chance, planted === "ignoreEpoch" ? "none" : planted, isFull),
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
    return async () => {
      await worker.leave("the simulation stops it");
      await worker.stop();
    };
  };

  for (let number = 1; number <= workerCount; number++) {
    const disk = memoryStates();
    const isFull = fullFrom(6);
    processes.push(keepAlive((life, chance) => startWorker(life, chance, `w${number}`, disk, isFull)));
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
        else if (body.type === "tree.wanted") makeTree(body);
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
  // As a gateway does, it makes the trees that are wanted; the same of the same parts.
  const makeTree = ({ taskId, tree }: Extract<Push, { type: "tree.wanted" }>): void =>
    void time.at(
      time.now() + random.integer(1_000),
      () => ask({ type: "tree.made", taskId, of: tree.of, tree: pretendDigest(JSON.stringify(tree)) }, () => {}),
    );
  const serveTrees = (): void => {
    ask({ type: "tree.serve", watch: 1 }, () => {});
    time.at(time.now() + 10_000, serveTrees);
  };
  time.at(startMs, serveTrees);
  const submit = (one: (typeof known)[number]): void =>
    ask({ type: "job.accept", job: one.planned.job }, (answer) => {
      if (answer.type === "fault") return void time.at(time.now() + 1_000, () => submit(one)); // it is stopping
      one.jobId = answer["jobId"] as JobId;
      if (one.planned.killAtMs === undefined) return;
      time.at(one.planned.killAtMs, () =>
        ask({ type: "job.kill", jobId: one.jobId!, reason: "the simulation said so" }, () =>
          void (one.killed = true)));
    });
  const setPolicy = (): void =>
    ask({ type: "settings.set", settings: simulatedSettings(seed), reason: "the simulation said so" }, (answer) => {
      if (answer.type === "fault") time.at(time.now() + 1_000, setPolicy);
    });
  time.at(startMs, setPolicy);
  for (const one of known) time.at(one.planned.submitAtMs, () => submit(one));
  let stops = 0;
  for (let stop = random.integer(stopsMax + 1); stop > 0; stop--) {
    time.at(startMs + random.integer(faultsForMs), () => {
      stops++;
      processes[random.integer(2) === 0 ? 0 : random.integer(processes.length)]!.stop();
    });
  }
  // An operator sets workers aside, and has them all back before it is calm.
  for (let times = random.integer(3); times > 0; times--) {
    const workerId = toWorkerId(`w${1 + random.integer(workerCount)}`);
    const fromMs = startMs + random.integer(Math.floor(faultsForMs / 2));
    const reason = "the simulation said so";
    time.at(fromMs, () => ask({ type: "worker.offline", workerId, reason }, () => {}));
    const reinstate = (): void =>
      ask({ type: "worker.reinstate", workerId, reason }, (answer) => {
        if (answer.type === "fault") time.at(time.now() + 1_000, reinstate); // it was never here yet
      });
    time.at(startMs + Math.floor(faultsForMs * 0.9), reinstate);
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
  for (const kind of ["scheduler", "task/", "worker/"]) {
    for await (const entry of schedulerDisk.history(kind)) entries.push(entry);
  }
  entries.sort((a, b) => a.seq - b.seq);
  return {
    seed,
    jobs: known,
    marks,
    entries,
    slotsOfEach: slots,
    stops,
    fullDisks,
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
