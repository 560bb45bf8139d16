import { Fault } from "../../domain/fault.ts";
import type { Address } from "../../domain/ids.ts";
import { invariant } from "../../domain/invariant.ts";
import { decodeFirst, decodePlain, encodePlain } from "./plain_cbor.ts";
import type { Entry, Said, Standing } from "./states.ts";

/** Longest address that a store takes, in bytes; addresses are printable ASCII. */
export const addressBytesMax = 255;

const addressPattern = /^[\x20-\x7e]{1,255}$/;

/** One entry as a plain map in one order, for CBOR that stands alone: the same entry is the same bytes. */
export function entryMap(entry: Entry): Record<string, unknown> {
  const { address, seq, atMs, epoch, machine, version, state, cause, said, reason } = entry;
  const fields = { address, seq, atMs, epoch, machine, version, state, cause, said };
  return reason === undefined ? fields : { ...fields, reason };
}

/** An entry in a store, as a CBOR array. What a restart needs comes first, so that the rest need not be decoded. */
type EntryRow = [
  seq: number,
  atMs: number,
  epoch: number,
  machine: string,
  version: number,
  causeId: string,
  state: unknown,
  causeFrom: Address,
  causeEvent: unknown,
  said: readonly Said[],
  reason?: string,
];
const standingFields = 7;

/**
 * One entry as CBOR, without its address: every place that keeps entries keeps the address beside them, where it can
 * be read without decoding. The bytes are the caller's until it lets go of them.
 */
export function encodeEntry({ seq, atMs, epoch, machine, version, state, cause, said, reason }: Entry): Uint8Array {
  const row: EntryRow = [seq, atMs, epoch, machine, version, cause.id, state, cause.from, cause.event, said];
  if (reason !== undefined) row.push(reason);
  return encodePlain(row);
}

export function decodeEntry(address: string, bytes: Uint8Array): Entry {
  const [seq, atMs, epoch, machine, version, id, state, from, event, said, reason] = decodePlain(bytes) as EntryRow;
  const cause = { id, from, event };
  const entry = { seq, atMs, epoch, address: address as Address, machine, version, state, cause, said };
  return reason === undefined ? entry : { ...entry, reason };
}

export function decodeStanding(address: string, bytes: Uint8Array): Standing {
  const [seq, atMs, epoch, machine, version, causeId, state] = decodeFirst(bytes, standingFields) as EntryRow;
  return { seq, atMs, epoch, address: address as Address, machine, version, causeId, state };
}

/**
 * The entries of one commit must continue the store without a gap.
 *
 * @param nextSeq the number that the first of them must have.
 * @throws {Error} a broken invariant: the host numbers its entries, and only it may write.
 * @throws {Fault} `REQUEST_INVALID` for an address that cannot be kept.
 */
export function checkEntries(entries: readonly Entry[], nextSeq: number): void {
  let seq = nextSeq;
  for (const entry of entries) {
    if (entry.seq !== seq) {
      invariant(false, `entries are committed without a gap: ${seq} must be next, current value is ${entry.seq}`);
    }
    seq++;
    if (!addressPattern.test(entry.address)) {
      throw new Fault(
        "REQUEST_INVALID",
        `Cannot save a state as its address must be 1–${addressBytesMax} printable ASCII characters: current value is ` +
          JSON.stringify(entry.address.slice(0, 300)),
      );
    }
  }
}

/** The place of a message in the order in which one host says things. */
export interface SaidPlace {
  /** Of the entry that said it. */
  readonly seq: number;
  readonly place: number;
}

/** The place in `<seq>.<place>`; undefined for the id of a message that no actor of this host said. */
export function placeOf(id: string): SaidPlace | undefined {
  const first = id.charCodeAt(0);
  if (!(first >= 48 && first <= 57)) return undefined;
  const dot = id.indexOf(".");
  if (dot < 0) return undefined;
  const seq = Number(id.slice(0, dot));
  const place = Number(id.slice(dot + 1));
  return Number.isSafeInteger(seq) && Number.isSafeInteger(place) ? { seq, place } : undefined;
}

export const isAfter = (a: SaidPlace, b: SaidPlace): boolean => a.seq > b.seq || (a.seq === b.seq && a.place > b.place);

/**
 * Follows which entries may still have said something that nobody heard, at the cost of one number each.
 * Messages are heard in the order in which they were said, so the highest cause that is an id of this host is a mark:
 * what was said after it is not heard yet.
 */
export interface UnsentMark {
  /** Takes in the next durable entry. */
  follow(entry: Entry): void;
  /** From now on only what is said to these addresses keeps an entry open. */
  narrow(isInternal: (to: Address) => boolean): void;
  readonly mark: SaidPlace;
  /** No entry before this one has something unsent. */
  readonly openFrom: number;
}

/** @param start where an earlier process of the same store had come to. */
export function unsentMark(start: { readonly mark: SaidPlace; readonly lastSeq: number }): UnsentMark {
  let mark = start.mark;
  let lastSeq = start.lastSeq;
  let isInternal: ((to: Address) => boolean) | undefined;
  /** Places of the last words of the entries that are open, in order; those before `head` are done with. */
  let open: SaidPlace[] = [];
  let head = 0;
  return {
    follow(entry) {
      lastSeq = entry.seq;
      for (let index = entry.said.length - 1; index >= 0; index--) {
        const said = entry.said[index]!;
        if (isInternal !== undefined && !isInternal(said.to)) continue;
        const place = placeOf(said.id);
        if (place !== undefined) open.push(place);
        break;
      }
      const heard = placeOf(entry.cause.id);
      if (heard === undefined || !isAfter(heard, mark)) return;
      mark = heard;
      while (head < open.length && !isAfter(open[head]!, mark)) head++;
      if (head > 1000 && head * 2 > open.length) {
        open = open.slice(head);
        head = 0;
      }
    },
    narrow(internal) {
      isInternal = internal;
    },
    get mark() {
      return mark;
    },
    get openFrom() {
      return open[head]?.seq ?? lastSeq + 1;
    },
  };
}

/** A cut must lie in what is kept. @throws {Fault} `REQUEST_INVALID` with the bounds. */
export function checkCut(seq: number, firstSeq: number, lastSeq: number): void {
  if (Number.isInteger(seq) && seq >= firstSeq && seq <= lastSeq) return;
  throw new Fault(
    "REQUEST_INVALID",
    `Cannot show the states after entry ${seq} as it must be one of ${firstSeq} to ${lastSeq}: current value is ${seq}`,
  );
}
