import type { Address } from "../domain/ids.ts";
import type { Entry, States } from "../snapshots/states/states.ts";
import { type MessageLine, messageLine, typeOf } from "./actors.ts";

/** A message between chosen actors. */
export interface SpokenLine extends MessageLine {
  /** Of the entry of its sender; of one from outside, of the entry that it led to. */
  readonly seq: number;
  readonly atMs: number;
  /** The entry that it led to. Absent: it changed nothing, it left this store, or it was heard after that moment. */
  readonly heardSeq?: number;
}

export const membersMax = 12;
const entriesMax = 200;

/**
 * What was said between these actors up to a moment, the last `limit` messages and what was said with the first of them,
 * oldest first. Addresses that are no actors
 * of the store ("member/w1") may be among them: what went there and came from there is told.
 *
 * @returns `next`: the moment from which older messages are had.
 */
export async function conversation(
  states: States,
  members: readonly Address[],
  seq: number,
  limit: number,
): Promise<{ readonly messages: readonly SpokenLine[]; readonly next?: number }> {
  const { firstSeq } = await states.bounds();
  const entries: Entry[] = [];
  /** Before it something may be missing. */
  let completeFrom = firstSeq;
  for (const address of members) {
    let at = seq;
    for (let count = 0; at >= firstSeq; count++) {
      if (count === entriesMax) {
        completeFrom = Math.max(completeFrom, at + 1);
        break;
      }
      const entry = await states.get(address, at);
      if (entry === undefined || entry.seq < firstSeq) break;
      entries.push(entry);
      at = entry.seq - 1;
    }
  }
  const heard = new Map(entries.map(({ cause, seq }) => [cause.id, seq]));
  const among = new Set<string>(members);
  const messages = entries.filter((entry) => entry.seq >= completeFrom).flatMap((entry): SpokenLine[] => {
    const { address, seq, atMs, cause, said } = entry;
    const spoken = said.filter(({ to }) => among.has(to)).map((message): SpokenLine => {
      const heardSeq = heard.get(message.id);
      return { ...messageLine(address, message), seq, atMs, ...(heardSeq === undefined ? {} : { heardSeq }) };
    });
    const isFromOutside = !/^[0-9]+\.[0-9]+$/.test(cause.id) && among.has(cause.from);
    if (!isFromOutside || typeOf(cause.event) === "") return spoken;
    const line = messageLine(cause.from, { id: cause.id, to: address, body: cause.event });
    return [{ ...line, seq, atMs, heardSeq: seq }, ...spoken];
  }).sort((a, b) => a.seq - b.seq);
  // What one entry said stays together, or what is left out of it would be on no page.
  let begin = Math.max(0, messages.length - limit);
  while (begin > 0 && messages[begin - 1]!.seq === messages[begin]!.seq) begin--;
  const shown = messages.slice(begin);
  const from = begin > 0 ? shown[0]!.seq : completeFrom;
  return { messages: shown, ...(from > firstSeq ? { next: from - 1 } : {}) };
}
