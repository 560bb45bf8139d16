import type { AnyStateMachine } from "xstate";
import {
  type Address,
  jobAddress,
  type JobId,
  kindOf,
  newJobId,
  schedulerAddress,
  taskAddress,
  taskId,
  workerAddress,
  workerId,
} from "../../src/domain/ids.ts";
import { emptyDigest } from "../../src/domain/digest.ts";
import { jobMachine } from "../../src/machines/job.ts";
import { schedulerMachine } from "../../src/machines/scheduler.ts";
import { alive, born, type Live, type Message, type State, stateOf, step } from "../../src/machines/step.ts";
import { taskMachine } from "../../src/machines/task.ts";
import { workerMachine } from "../../src/machines/worker.ts";
import type { Entry } from "../../src/snapshots/states/states.ts";

const machines = { scheduler: schedulerMachine, job: jobMachine, task: taskMachine, worker: workerMachine } as const;

/** A history as a scheduler's host records it: the real machines, an entry a step, messages heard in the order said. */
export function recording(startMs = 1_760_000_000_000) {
  const entries: Entry[] = [];
  const states = new Map<Address, State>();
  let outsideIds = 0;
  let nowMs = startMs;

  const enter = (
    address: Address,
    cause: Entry["cause"],
    live: Live | undefined,
    said: readonly Message[],
    reason?: string,
  ): Entry["said"] => {
    const seq = entries.length + 1;
    const state = live === undefined ? null : stateOf(live);
    if (state === null) states.delete(address);
    else states.set(address, state);
    const saying = said.map(({ to, ...body }, place) => ({ id: `${seq}.${place}`, to, body }));
    entries.push({
      seq,
      atMs: nowMs,
      epoch: 1,
      address,
      machine: kindOf(address),
      version: 1,
      state: structuredClone(state),
      cause,
      said: saying,
      ...(reason === undefined ? {} : { reason }),
    });
    return saying;
  };
  const hear = (address: Address, event: { readonly type: string }, cause: Entry["cause"], reason?: string): void => {
    const machine = machines[kindOf(address) as keyof typeof machines] as unknown as AnyStateMachine;
    const before = states.get(address);
    const input = "input" in event ? event.input : undefined;
    if (before === undefined && input === undefined) return; // as a host does for an actor that is not there
    const was = before === undefined ? undefined : alive(machine, before);
    const [live, said] = was === undefined ? born(machine, input) : step(machine, was, event);
    if (live === was) return;
    for (const { id, to, body } of enter(address, cause, live, said, reason)) {
      const type = (body as { type: string }).type;
      if (kindOf(to) in machines) {
        hear(to, body as { type: string }, { id, from: address, event: { type } });
      }
    }
  };
  const tell = (address: Address, event: { readonly type: string }, from: string, reason?: string): void =>
    hear(address, event, { id: `x:${++outsideIds}`, from: from as Address, event }, reason);

  return {
    entries,
    get nowMs() {
      return nowMs;
    },
    wait: (ms: number) => void (nowMs += ms),
    tell,
    scheduler: () => tell(schedulerAddress, { type: "born", input: { atMs: nowMs } } as never, "member/scheduler"),
    worker(name: string, slots: number) {
      const worker = { workerId: workerId(name), incarnation: "1", slots, platform: {}, isolation: "none" };
      const input = { worker, lostAfterMs: 30_000, atMs: nowMs };
      tell(workerAddress(workerId(name)), { type: "born", input } as never, `member/${name}`);
    },
    job(
      chance: number,
      tasks: number,
      requestor = "ada",
      asked: { readonly key?: string; readonly tag?: string; readonly tasks?: readonly object[] } = {},
    ): JobId {
      const jobId = newJobId(nowMs, chance);
      const task = {
        command: emptyDigest,
        source: { kind: "empty" },
        dependents: [],
        timeoutMs: 60_000,
        retries: 0,
        platform: {},
        cache: "off",
      };
      const list = Array.from({ length: tasks }, (_, place) => ({
        ...task,
        name: `t${place}`,
        ...asked.tasks?.[place],
      }));
      const { key = jobId, tag = "" } = asked;
      const input = { jobId, key, requestor, tag, priority: 1, failFast: false, tasks: list, atMs: nowMs };
      tell(jobAddress(jobId), { type: "born", input } as never, "member/gateway");
      return jobId;
    },
    place(job: JobId, place: number, worker: string) {
      const event = { type: "task.placed", workerId: workerId(worker), why: "it is free", atMs: nowMs } as const;
      tell(taskAddress(taskId(job, place)), event, "scheduler", "it is free");
    },
    start(job: JobId, place: number, worker: string, attempt = 1) {
      const event = { type: "task.started", workerId: workerId(worker), attempt, startedAtMs: nowMs } as const;
      tell(taskAddress(taskId(job, place)), event, `worker/${worker}`);
    },
    end(job: JobId, place: number, worker: string, exitCode = 0, attempt = 1, left: object = {}) {
      const outcome = { kind: "exited", exitCode, startedAtMs: nowMs - 10, endedAtMs: nowMs, ...left };
      const event = { type: "task.ended", workerId: workerId(worker), attempt, outcome, atMs: nowMs };
      tell(taskAddress(taskId(job, place)), event, `worker/${worker}`);
    },
    /** The actor is gone. */
    remove(address: Address) {
      enter(address, { id: `x:${++outsideIds}`, from: address, event: { type: "remove" } }, undefined, []);
    },
  };
}
