import { Fault } from "../domain/fault.ts";
import type { States } from "../snapshots/states/states.ts";

/** A moment of the cluster: just after an entry. */
export interface Moment {
  readonly seq: number;
  /** Of that entry; 0 when there is none. */
  readonly atMs: number;
}

/** What of the history is kept. */
export interface Bounds {
  readonly first: Moment;
  readonly last: Moment;
}

export async function boundsOf(states: States): Promise<Bounds> {
  const { firstSeq, lastSeq } = await states.bounds();
  const [first, last] = await Promise.all([momentOf(states, firstSeq), momentOf(states, lastSeq)]);
  return { first, last };
}

export async function momentOf(states: States, seq: number): Promise<Moment> {
  for await (const { atMs } of states.history("", { afterSeq: seq - 1, toSeq: seq, limit: 1 })) return { seq, atMs };
  return { seq, atMs: 0 };
}

/**
 * The moment that a request means.
 *
 * @param seq the entry; absent: the newest one at `atMs`; both absent: the newest one.
 * @throws {Fault} `REQUEST_INVALID` with the bounds for one that is not kept.
 */
export async function findMoment(
  states: States,
  wanted: { readonly seq?: number | undefined; readonly atMs?: number | undefined },
): Promise<Moment> {
  const { firstSeq, lastSeq } = await states.bounds();
  // What came meanwhile is not yet among what was looked at.
  const seq = wanted.seq ??
    (wanted.atMs === undefined ? lastSeq : Math.min(lastSeq, await states.seqAt(wanted.atMs)));
  if (seq < firstSeq || seq > lastSeq) {
    throw new Fault(
      "REQUEST_INVALID",
      `Cannot show that moment as it must be one of entries ${firstSeq} to ${lastSeq}, which are kept: current value is ${
        wanted.seq ?? `the time ${wanted.atMs}`
      }`,
    );
  }
  return await momentOf(states, seq);
}

/** As {@link findMoment}; for one that is not kept, the nearest that is. */
export async function nearestMoment(
  states: States,
  wanted: { readonly seq?: number | undefined; readonly atMs?: number | undefined },
): Promise<Moment> {
  const { firstSeq, lastSeq } = await states.bounds();
  const seq = wanted.seq ?? (wanted.atMs === undefined ? lastSeq : await states.seqAt(wanted.atMs));
  return await momentOf(states, Math.max(Math.min(firstSeq, lastSeq), Math.min(seq, lastSeq)));
}
