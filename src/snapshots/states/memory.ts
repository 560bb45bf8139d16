import type { Address } from "../../domain/ids.ts";
import { Fault } from "../../domain/fault.ts";
import {
  checkCut,
  checkEntries,
  decodeEntry,
  decodeStanding,
  encodeEntry,
  isAfter,
  placeOf,
  unsentMark,
} from "./entry_codec.ts";
import type { Entry, States, Tail } from "./states.ts";

/** An entry as bytes, so that nobody changes it afterwards and what does not survive CBOR shows at once. */
interface Kept {
  readonly seq: number;
  readonly atMs: number;
  readonly address: string;
  readonly gone: boolean;
  readonly bytes: Uint8Array;
}

/** States that live as long as this process. `prune` forgets entry by entry, but never the last one. */
export function memoryStates(): States {
  /** All entries from `firstSeq` on, by seq. */
  let log: Kept[] = [];
  let firstSeq = 1;
  let lastSeq = 0;
  let lastEpoch = 0;
  let bytes = 0;
  /** Of each actor, oldest first; the first one may be older than `firstSeq`. */
  const actors = new Map<string, Kept[]>();
  const unsent = unsentMark({ mark: { seq: 0, place: 0 }, lastSeq: 0 });
  let isClosed = false;

  const entryOf = (kept: Kept): Entry => decodeEntry(kept.address, kept.bytes);
  const under = (prefix: string): string[] => [...actors.keys()].filter((address) => address.startsWith(prefix)).sort();
  const lastUpTo = (address: string, seq: number): Kept | undefined =>
    actors.get(address)?.findLast((kept) => kept.seq <= seq);

  /** Forgets the oldest entry of the log; it stays with its actor while it is the last one before `firstSeq`. */
  const forget = (first: Kept): void => {
    firstSeq = first.seq + 1;
    bytes -= first.bytes.length;
    const entries = actors.get(first.address)!;
    if (entries[0]!.seq < first.seq) entries.shift();
    if (first.gone) entries.shift();
    if (entries.length === 0) actors.delete(first.address);
  };

  return {
    async commit(entries) {
      if (isClosed) throw new Fault("CANCELLED", "Cannot commit as the store must be open: it is closed");
      checkEntries(entries, lastSeq + 1);
      const kept = entries.map((entry): Kept => ({
        seq: entry.seq,
        atMs: entry.atMs,
        address: entry.address,
        gone: entry.state === null,
        bytes: encodeEntry(entry),
      }));
      for (const [index, entry] of entries.entries()) {
        const one = kept[index]!;
        log.push(one);
        bytes += one.bytes.length;
        const before = actors.get(one.address);
        if (before === undefined) actors.set(one.address, [one]);
        else before.push(one);
        unsent.follow(entry);
        lastSeq = entry.seq;
        lastEpoch = entry.epoch;
      }
      await undefined;
    },
    tail(isInternal) {
      unsent.narrow(isInternal);
      const said: Tail["unsent"][number][] = [];
      for (const kept of log.slice(Math.max(0, unsent.openFrom - firstSeq))) {
        const { address, said: messages } = entryOf(kept);
        for (const message of messages) {
          const place = placeOf(message.id);
          if (place !== undefined && isAfter(place, unsent.mark) && isInternal(message.to)) {
            said.push({ ...message, from: address });
          }
        }
      }
      return Promise.resolve({ lastSeq, lastEpoch, unsent: said });
    },
    async get(address, seq) {
      if (seq !== undefined) checkCut(seq, firstSeq, lastSeq);
      const kept = seq === undefined ? actors.get(address)?.at(-1) : lastUpTo(address, seq);
      return await Promise.resolve(kept === undefined || kept.gone ? undefined : entryOf(kept));
    },
    async *current(prefix = "") {
      for (const address of under(prefix)) {
        const kept = actors.get(address)?.at(-1);
        if (kept !== undefined && !kept.gone) yield entryOf(kept);
      }
    },
    async *standing(prefix = "") {
      const newest = under(prefix).map((address) => actors.get(address)!.at(-1)!);
      yield newest.filter(({ gone }) => !gone).map(({ address, bytes }) => decodeStanding(address, bytes));
    },
    async *history(address, { afterSeq = 0, toSeq = lastSeq, limit = Infinity } = {}) {
      const entries = address === ""
        ? log.slice(Math.max(0, afterSeq + 1 - firstSeq), Math.max(0, toSeq + 1 - firstSeq))
        : (address.endsWith("/") ? under(address) : [address])
          .flatMap((one) => actors.get(one) ?? [])
          .filter(({ seq }) => seq >= firstSeq && seq > afterSeq && seq <= toSeq)
          .sort((a, b) => a.seq - b.seq);
      for (const kept of entries.slice(0, limit)) yield entryOf(kept);
    },
    async *cut(seq, prefix = "", after = "") {
      for (const address of under(prefix)) {
        if (address <= after) continue;
        checkCut(seq, firstSeq, lastSeq);
        const kept = lastUpTo(address, seq);
        if (kept !== undefined && !kept.gone) yield entryOf(kept);
      }
      checkCut(seq, firstSeq, lastSeq);
    },
    seqAt(atMs) {
      const later = [...actors.values()].flat().filter((entry) => entry.seq >= firstSeq && entryOf(entry).atMs > atMs);
      return Promise.resolve(later.reduce((first, { seq }) => Math.min(first, seq), lastSeq + 1) - 1);
    },
    bounds: () => Promise.resolve({ firstSeq, lastSeq, bytes }),
    news: (afterSeq) =>
      Promise.resolve({
        lastSeq,
        addresses: afterSeq < firstSeq - 1
          ? undefined
          : log.slice(Math.max(0, afterSeq + 1 - firstSeq)).map(({ address }) => address),
      }),
    addresses: (afterSeq, toSeq) => {
      const those = log.slice(Math.max(0, afterSeq + 1 - firstSeq), Math.max(0, toSeq + 1 - firstSeq));
      return Promise.resolve(those.map(({ address }) => address as Address));
    },
    prune({ beforeMs, bytesMax }) {
      let count = 0;
      for (const kept of log.slice(0, -1)) {
        if (!(bytes > bytesMax || kept.atMs < beforeMs) || kept.seq >= unsent.openFrom) break;
        forget(kept);
        count++;
      }
      log = log.slice(count);
      return Promise.resolve({ firstSeq, bytes });
    },
    close() {
      isClosed = true;
      log = [];
      actors.clear();
      return Promise.resolve();
    },
  };
}
