import type { Digest } from "../domain/digest.ts";
import type { TaskId } from "../domain/ids.ts";
import type { Outcome } from "../domain/job.ts";
import { type Cached, inputRootOf, type TaskContext } from "../machines/task.ts";
import type { Found, TaskResults } from "./task_results.ts";

export interface SharingOptions {
  readonly results: TaskResults;
  /** Of a task that has not settled; undefined once it has. */
  readonly taskOf: (taskId: TaskId) => TaskContext | undefined;
  /** Whether it is with no worker yet. */
  readonly isQueued: (taskId: TaskId) => boolean;
  /** Whether a requestor runs as many as it may: what it has queued waits for that. */
  readonly isThrottled: (requestor: string) => boolean;
  /** Whether what the one has queued may start before what the other has, as things are. */
  readonly goesBefore: (requestor: string, other: string) => boolean;
  /** It is to be run: it may be placed. */
  readonly queue: (taskId: TaskId) => void;
  readonly dequeue: (taskId: TaskId) => void;
  /** It will have the result of that task, and waits for what that one waits for. */
  readonly follows: (taskId: TaskId, leader: TaskId) => void;
  /** It need not be run. */
  readonly settle: (taskId: TaskId, outcome: Outcome, cached: Cached) => void;
  /** Does it in a turn of its own. */
  readonly enqueue: (work: () => void) => void;
}

/**
 * What need not be run: a task whose result is known gets it, and of identical tasks in flight one is run, which the
 * others follow. Derived, never saved: after a restart it is found anew. Call it at the end of a turn, when all that
 * changed in it is decided.
 */
export interface Sharing {
  /** A task became queued for the first time: it is answered, follows another, or is queued. */
  arrived(taskId: TaskId): void;
  /** A task that was queued without having arrived is about to be placed. False: it has left the queue. */
  mayPlace(taskId: TaskId): boolean;
  /** A task is with a worker: others that come follow it. */
  runs(taskId: TaskId): void;
  /**
   * A task's run is over, or it went away: those that follow it have its result, or the first of them is queued. One that
   * waits for a tree to be made of its output is told of twice: then, and when it has it.
   */
  settled(task: TaskContext): void;
  /**
   * No worker could run it: one that follows it and needs something else is run instead, if there is one, and it waits for
   * that one's result as well. It stays in the queue, so that both may run when a worker comes that could run it.
   *
   * @returns whether there was one.
   */
  giveWay(taskId: TaskId): boolean;
  /**
   * Of the queued ones that others follow, those whose requestors have come to run as many as they may, or whose class to
   * its share, give way to one that would be given a slot before them. A call looks at some; the next ones go on.
   */
  passHeld(): void;
  /** Those that follow it. */
  followersOf(taskId: TaskId): Iterable<TaskId>;
  /** The task that this one follows. */
  followed(taskId: TaskId): TaskId | undefined;
}

/** So many that follow a task are told at once what came of it. */
const atOnceMax = 250;
/** Of {@link Sharing.passHeld}. */
const looksMax = 1_000;

/** Two actions are as good as never of one number; where they are, they are only not shared. */
const numberOf = (action: Digest): number => parseInt(action.slice(0, 12), 16);

/** Whose run it is that others have the result of. */
const ownRun = (
  { taskId, attempts, settledAtMs }: TaskContext,
  { startedAtMs = 0, endedAtMs = 0 }: Extract<Outcome, { kind: "exited" }>,
): Cached => {
  const workerId = attempts.at(-1)?.workerId;
  return {
    taskId,
    ...(workerId === undefined ? {} : { workerId }),
    madeAtMs: settledAtMs!,
    savedMs: Math.max(0, endedAtMs - startedAtMs),
  };
};

const isSame = (a: TaskContext, b: TaskContext): boolean =>
  a.command === b.command && a.timeoutMs === b.timeoutMs && inputRootOf(a) === inputRootOf(b) &&
  JSON.stringify(a.platform) === JSON.stringify(b.platform) && a.action?.digest === b.action?.digest &&
  a.action?.instance === b.action?.instance;

/** The other could never run as things are, and this one may: they do not need the same. */
const mayRunInstead = (task: TaskContext, other: TaskContext): boolean =>
  other.unmet !== undefined && task.unmet === undefined &&
  JSON.stringify(task.needs ?? {}) !== JSON.stringify(other.needs ?? {});

export function createSharing(options: SharingOptions): Sharing {
  const { results, taskOf, queue, settle } = options;
  /** By action: the task that is run, or will be. */
  const leaders = new Map<number, TaskId>();
  const followers = new Map<TaskId, Set<TaskId>>();
  const following = new Map<TaskId, TaskId>();
  /** Where {@link Sharing.passHeld} has got to. */
  let rest: Iterator<void> | undefined;

  const follow = (taskId: TaskId, leader: TaskId): void => {
    let those = followers.get(leader);
    if (those === undefined) followers.set(leader, those = new Set());
    those.add(taskId);
    following.set(taskId, leader);
  };
  const unfollow = (taskId: TaskId): void => {
    const leader = following.get(taskId);
    if (leader === undefined) return;
    following.delete(taskId);
    const those = followers.get(leader);
    those?.delete(taskId);
    if (those?.size === 0) followers.delete(leader);
  };
  /** The task that is run for this action; the given one if there is none. */
  const lead = (taskId: TaskId, task: TaskContext, number: number): TaskId => {
    const leader = leaders.get(number);
    if (leader !== undefined && leader !== taskId) {
      const other = taskOf(leader);
      if (other !== undefined && isSame(other, task)) {
        // What is shared has the most urgent priority of those who wait for it (REAPI checklist M-2), and nobody waits
        // for what another may not run yet.
        const isMoreUrgent = task.priority > other.priority && !options.isThrottled(task.requestor) &&
          !options.goesBefore(other.requestor, task.requestor);
        const overtakes = options.isQueued(leader) &&
          (isMoreUrgent || options.goesBefore(task.requestor, other.requestor));
        if (!overtakes && !mayRunInstead(task, other)) return leader;
        pass(leader, taskId);
        if (overtakes) {
          options.dequeue(leader);
          options.follows(leader, taskId);
        }
      }
    }
    leaders.set(number, taskId);
    return taskId;
  };
  /** Those that follow the one follow the other from now on, and so does the one. */
  const pass = (leader: TaskId, to: TaskId): void => {
    const those = [...followers.get(leader) ?? [], leader];
    followers.delete(leader);
    unfollow(to);
    for (const each of those) if (each !== to) follow(each, to);
  };

  /** It gave way and ran all the same: the one that was to run instead, and still waits, need not. */
  const outrun = (task: TaskContext, leader: TaskId | undefined): readonly TaskId[] => {
    const { outcome, cached } = task;
    if (leader === undefined || cached !== undefined || outcome?.kind !== "exited" || outcome.exitCode !== 0) return [];
    const other = taskOf(leader);
    return other !== undefined && isSame(other, task) && options.isQueued(leader) ? [leader] : [];
  };

  const isSettled = (taskId: TaskId): boolean => taskOf(taskId) === undefined;
  /** Another task runs it, or this one does. */
  const join = (taskId: TaskId, task: TaskContext, action: Digest): boolean => {
    const leader = lead(taskId, task, numberOf(action));
    if (leader === taskId) return true;
    follow(taskId, leader);
    options.follows(taskId, leader);
    return false;
  };
  /** It may be with a worker all the same: it gave way and was placed, or its worker has come back with it. */
  const goOn = (taskId: TaskId, task: TaskContext, action: Digest): void => {
    if (!options.isQueued(taskId)) lead(taskId, task, numberOf(action));
    else if (join(taskId, task, action)) queue(taskId);
  };
  /** When a result seems to be known. */
  const answer = (taskId: TaskId, task: TaskContext, action: Digest, found: Promise<Found | undefined>): void =>
    void found.then((known) =>
      options.enqueue(() => {
        if (isSettled(taskId)) return; // killed meanwhile
        if (known === undefined) goOn(taskId, task, action);
        else settle(taskId, known.outcome, known.cached);
      })
    );

  /** All that {@link Sharing.passHeld} does, look by look: much may have changed from one to the next. */
  function* passing(): Generator<void> {
    for (const [leader, those] of followers) {
      yield;
      for (const follower of those) {
        const task = taskOf(leader);
        if (task === undefined || !options.isQueued(leader) || followers.get(leader) !== those) break;
        const its = taskOf(follower);
        if (its !== undefined && options.isQueued(follower) && options.goesBefore(its.requestor, task.requestor)) {
          pass(leader, follower);
          leaders.set(numberOf(results.actionOf(task)), follower);
          options.dequeue(leader);
          queue(follower);
          options.follows(leader, follower);
          break;
        }
        yield;
      }
    }
  }

  return {
    arrived(taskId) {
      const task = taskOf(taskId);
      if (task === undefined) return;
      const action = results.actionOf(task);
      const found = results.find(action, task);
      if (found === undefined) goOn(taskId, task, action);
      else answer(taskId, task, action, found);
    },
    mayPlace(taskId) {
      const task = taskOf(taskId)!;
      const action = results.actionOf(task);
      const found = results.find(action, task);
      if (found === undefined && join(taskId, task, action)) return true;
      options.dequeue(taskId);
      if (found !== undefined) answer(taskId, task, action, found);
      return false;
    },
    runs(taskId) {
      const task = taskOf(taskId)!;
      if (task.cache === "use") lead(taskId, task, numberOf(results.actionOf(task)));
    },
    settled(task) {
      const { taskId, outcome } = task;
      unfollow(taskId);
      if (task.cache === "off" || inputRootOf(task) === undefined) return;
      const number = numberOf(results.actionOf(task));
      if (leaders.get(number) === taskId) leaders.delete(number);
      if (task.cached === undefined && task.fullOutput === undefined) void results.keep(task);
      const those = [...followers.get(taskId) ?? [], ...outrun(task, leaders.get(number))];
      followers.delete(taskId);
      for (const follower of those) following.delete(follower);
      const goesOn = (follower: TaskId): void => {
        const its = taskOf(follower);
        if (its === undefined) return;
        if (outcome?.kind === "exited" && (outcome.exitCode === 0 || its.retries <= task.retries)) {
          settle(follower, outcome, task.cached ?? ownRun(task, outcome));
        } else goOn(follower, its, results.actionOf(its));
      };
      // Of very many each has a step of its own, so that others have theirs in between.
      for (const [at, follower] of those.entries()) {
        if (at < atOnceMax) goesOn(follower);
        else options.enqueue(() => goesOn(follower));
      }
    },
    giveWay(taskId) {
      const task = taskOf(taskId)!;
      for (const follower of followers.get(taskId) ?? []) {
        const its = taskOf(follower);
        if (its === undefined || !mayRunInstead(its, task)) continue;
        pass(taskId, follower);
        leaders.set(numberOf(results.actionOf(task)), follower);
        queue(follower);
        return true;
      }
      return false;
    },
    passHeld() {
      for (let looks = 0; looks < looksMax; looks++) {
        rest ??= passing();
        if (rest.next().done === true) return void (rest = undefined);
      }
    },
    followersOf: (taskId) => followers.get(taskId) ?? [],
    followed: (taskId) => following.get(taskId),
  };
}
