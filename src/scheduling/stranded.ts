import type { TaskId } from "../domain/ids.ts";
import type { Fitting } from "./fitting.ts";
import type { Fleet } from "./fleet.ts";
import type { Policy } from "./policy.ts";
import type { Queue, Unmet, Waiting, Wish } from "./queue.ts";

/** What a queued task is to be told of whether a worker could ever run it. */
export interface Tidings {
  readonly taskId: TaskId;
  /** What keeps it from every worker that is here; undefined: one could run it now. */
  readonly unmet: Unmet | undefined;
  /** It has waited for such a worker for longer than the policy lets it. */
  readonly fails: boolean;
}

/**
 * Finds the tasks that no worker that is here could ever run, so that they are told without having asked: each once its
 * wish was so, and it was queued, for `policy.unmetAfterMs` without a break; anew when what is lacking is something else;
 * and again when a worker has come that could run it. While no worker at all is here that says nothing of a task, and
 * nobody is told anything.
 *
 * A call looks at so many wishes and workers at most, and tells so many tasks; what is left is for the next ones.
 */
export interface Stranded {
  /** To be carried out by the caller: each is given once. */
  news(nowMs: number): readonly Tidings[];
}

/** In one call: of wishes times the workers that are looked at for each; and of tasks that are told. */
const looksMax = 200_000;
export const newsMax = 250;

export function createStranded(
  fleet: Fleet,
  queue: Queue,
  { couldRun, unmetBy }: Fitting,
  policy: () => Policy,
): Stranded {
  let rest: Iterator<Wish> | undefined;
  let current: Wish | undefined;
  /** Where it has got to among the tasks of that one, and what it is telling them. */
  let walk: { readonly statement: number; readonly entries: Iterator<Waiting> } | undefined;
  let looks = 0;

  function* waitingOf(wish: Wish): Generator<Waiting> {
    for (const { again, againHead, first, firstHead } of wish.byKey.values()) {
      for (let at = againHead; at < again.length; at++) if (!again[at]!.gone) yield again[at]!;
      for (let at = firstHead; at < first.length; at++) if (!first[at]!.gone) yield first[at]!;
    }
  }
  /**
   * @param statement what they are told; 0: that one could run it.
   * @param tell what there is to tell of one, if anything.
   * @returns whether that was all.
   */
  const tellAll = (
    wish: Wish,
    statement: number,
    found: Tidings[],
    tell: (entry: Waiting) => Tidings | undefined,
  ): boolean => {
    if (walk?.statement !== statement) walk = { statement, entries: waitingOf(wish) };
    while (found.length < newsMax) {
      const { value, done } = walk.entries.next() as IteratorResult<Waiting, undefined>;
      if (done === true) return true;
      const news = value.gone ? undefined : tell(value);
      if (news !== undefined) found.push(news);
    }
    return false;
  };
  /** @returns whether that was all. */
  const look = (wish: Wish, nowMs: number, found: Tidings[]): boolean => {
    if (wish.fitsVersion !== fleet.version) looks += fleet.workers.size;
    if (couldRun(wish)) {
      wish.strandedSinceMs = undefined;
      if (wish.told === 0) return true;
      const isAll = tellAll(wish, 0, found, (entry) => {
        if (entry.told === 0) return undefined;
        entry.told = 0;
        wish.told--;
        return { taskId: entry.taskId, unmet: undefined, fails: false };
      });
      if (!isAll) return false;
      wish.toldThis = 0;
      return true;
    }
    const { unmetAfterMs, failUnmetAfterMs = Infinity } = policy();
    wish.strandedSinceMs ??= nowMs;
    const forMs = nowMs - wish.strandedSinceMs;
    if (forMs < Math.min(unmetAfterMs, failUnmetAfterMs)) return true;
    if (wish.unmet === undefined) looks += fleet.workers.size;
    const unmet = unmetBy(wish);
    const statement = JSON.stringify(unmet.lacks);
    if (wish.statementNumber === 0 || statement !== wish.statement) {
      wish.statement = statement;
      wish.statementNumber++;
      wish.toldThis = 0;
    }
    if (wish.toldThis === wish.size && forMs < failUnmetAfterMs) return true;
    return tellAll(wish, wish.statementNumber, found, (entry) => {
      const waitedMs = nowMs - entry.queuedAtMs;
      const fails = Math.min(forMs, waitedMs) >= failUnmetAfterMs;
      const isNews = entry.told !== wish.statementNumber && Math.min(forMs, waitedMs) >= unmetAfterMs;
      if (!fails && !isNews) return undefined;
      if (entry.told === 0) wish.told++;
      if (entry.told !== wish.statementNumber) wish.toldThis++;
      entry.told = wish.statementNumber;
      return { taskId: entry.taskId, unmet, fails };
    });
  };

  return {
    news(nowMs) {
      const found: Tidings[] = [];
      if (fleet.workers.size === 0) return found;
      rest ??= queue.wishes.values();
      // It has gone meanwhile, or new settings have sorted all wishes anew.
      if (current !== undefined && queue.wishes.get(current.key) !== current) current = walk = undefined;
      for (looks = 0; looks < looksMax; looks++) {
        current ??= rest.next().value as Wish | undefined;
        if (current === undefined) {
          rest = undefined;
          return found;
        }
        if (!look(current, nowMs, found)) return found;
        current = walk = undefined;
      }
      return found;
    },
  };
}
