import { schedulerAddress, taskAddress, type TaskId } from "../domain/ids.ts";
import { explainUnmet } from "../machines/explain.ts";
import type { TaskContext } from "../machines/task.ts";
import { newsMax, type Tidings } from "../scheduling/stranded.ts";
import type { Host } from "./host.ts";
import type { SchedulerIndex } from "./scheduler_index.ts";
import type { Sharing } from "./sharing.ts";

/** Assignments of one turn. */
const placedPerTurn = 500;
const newsEveryMs = 1_000;
/** So many that wait for one are told at once. */
const atOnceMax = 250;

/** Carries out what the pure decision says: what is placed, put back for a policy, and told that it cannot be placed. */
export interface Placement {
  /** At the end of a turn, when all that changed in it is known to the index. Comes again when more is to be done. */
  place(atMs: number): void;
  /** A task waits for what that one waits for: it is told what that one was told. Inside a turn. */
  follows(taskId: TaskId, leader: TaskId): void;
}

export function createPlacement(host: Host, index: SchedulerIndex, sharing: Sharing): Placement {
  const { view } = index;
  let newsAtMs = -Infinity;
  const taskOf = (taskId: TaskId): TaskContext => host.state(taskAddress(taskId))!.context as TaskContext;
  const tell = (taskId: TaskId, event: { readonly type: string; readonly [field: string]: unknown }, why: string) =>
    host.tell(taskAddress(taskId), event, schedulerAddress, why);

  /** What a restart had queued may have a result that is known, or a twin: nobody has looked. */
  const mayBePlaced = (taskId: TaskId): boolean => !index.takeRestored(taskId) || sharing.mayPlace(taskId);

  const putBack = (atMs: number): void => {
    for (const { taskId, why } of view.preemptions(atMs)) {
      tell(taskId, { type: "task.putBack", attempt: taskOf(taskId).attempt, why, preempted: true, atMs }, why);
    }
  };
  const tellNews = (atMs: number): void => {
    if (atMs < newsAtMs) return;
    if (view.mayPass) sharing.passHeld();
    const news = view.news(atMs);
    for (const one of news) {
      if (one.unmet !== undefined && !mayBePlaced(one.taskId)) continue;
      tellOne(one, atMs);
      if (one.fails || (one.unmet !== undefined && sharing.giveWay(one.taskId))) continue;
      tellFollowers(one.taskId, atMs, (follower) => tellOne({ ...one, taskId: follower }, atMs));
    }
    if (news.length < newsMax) newsAtMs = atMs + newsEveryMs;
    else host.enqueue(() => {});
  };
  const tellPlaceable = (taskId: TaskId): void => {
    if (taskOf(taskId).unmet === undefined) return;
    tell(taskId, { type: "task.placeable" }, "A worker is there that could run it");
  };
  /** Of very many each has a step of its own, so that others have theirs in between. */
  const tellFollowers = (leader: TaskId, atMs: number, tellNow: (follower: TaskId) => void): void => {
    for (const [at, follower] of [...sharing.followersOf(leader)].entries()) {
      if (at < atOnceMax) tellNow(follower);
      else host.enqueue(() => tellAsFollowed(follower, atMs));
    }
  };
  const tellAsFollowed = (follower: TaskId, atMs: number): void => {
    const leader = sharing.followed(follower);
    if (leader !== undefined) tellOne({ taskId: follower, unmet: taskOf(leader).unmet, fails: false }, atMs);
  };
  const tellOne = ({ taskId, unmet, fails }: Tidings, atMs: number): void => {
    const known = taskOf(taskId).unmet;
    if (unmet === undefined) return tellPlaceable(taskId);
    // It was told the same before a restart.
    if (!fails && known !== undefined && JSON.stringify(known.lacks) === JSON.stringify(unmet.lacks)) return;
    const why = explainUnmet(unmet);
    tell(taskId, { type: "task.unplaceable", unmet: { ...unmet, toldAtMs: atMs }, why, fails }, why);
  };

  return {
    follows(taskId, leader) {
      const { unmet } = taskOf(leader);
      if (unmet === undefined || taskOf(taskId).unmet !== undefined) return;
      const why = explainUnmet(unmet);
      tell(taskId, { type: "task.unplaceable", unmet, why, fails: false }, why);
    },
    place(atMs) {
      if (view.queued === 0) return;
      putBack(atMs);
      tellNews(atMs);
      let placed = 0;
      for (let next = view.next(atMs); next !== undefined; next = view.next(atMs)) {
        const { taskId, workerId, why } = next;
        if (!mayBePlaced(taskId)) continue;
        const task = taskOf(taskId);
        const estimate = index.estimateOf(task);
        tell(
          taskId,
          { type: "task.placed", workerId, why, ...(estimate === undefined ? {} : { estimate }), atMs },
          why,
        );
        if (task.unmet !== undefined) tellFollowers(taskId, atMs, tellPlaceable);
        if (++placed === placedPerTurn) {
          host.enqueue(() => {});
          break;
        }
      }
    },
  };
}
