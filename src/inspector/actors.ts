import { Fault } from "../domain/fault.ts";
import { type Address, kindOf } from "../domain/ids.ts";
import type { JobContext } from "../machines/job.ts";
import { pathOf, type State } from "../machines/step.ts";
import type { Entry, Said, States } from "../snapshots/states/states.ts";
import { type Taken, takenBy } from "./charts.ts";
import { explainActor } from "./sentences.ts";

/** An actor in a list. */
export interface ActorLine {
  readonly address: Address;
  readonly kind: string;
  /** "active.running". */
  readonly state: string;
  /** When it came there, and by which entry. */
  readonly seq: number;
  readonly atMs: number;
  readonly requestor?: string;
  /** Of a job its tag, of a task its name. */
  readonly label?: string;
  readonly why: string;
}

/** A message as it is shown: its body as text, of a long one the beginning. */
export interface MessageLine {
  /** `<seq>.<place>` for one between actors. */
  readonly id: string;
  readonly from: Address;
  readonly to: Address;
  readonly type: string;
  readonly body: string;
}

/** One step of an actor. */
export interface StepLine {
  readonly seq: number;
  readonly atMs: number;
  readonly epoch: number;
  readonly event: MessageLine;
  /** What of the chart it took; none at its birth, and when the event's body is not kept any more. */
  readonly taken: readonly Taken[];
  /** Absent: it was born by this step, or what it was before is not kept. */
  readonly before?: string;
  /** Absent: it is gone. */
  readonly after?: string;
  /** What changed in its context: values as JSON, of long ones the beginning; absent where there was none. */
  readonly changes: readonly { readonly key: string; readonly before?: string; readonly after?: string }[];
  readonly said: readonly MessageLine[];
  readonly reason?: string;
}

/** One actor at a moment. */
export interface ActorPage extends ActorLine {
  readonly version: number;
  /** As XState has it: "queued" or {"active": "running"}. */
  readonly value: unknown;
  readonly context: readonly { readonly key: string; readonly value: string }[];
  /** The step that led here. */
  readonly step: StepLine;
  /**
   * What had been said to it and was heard later, the oldest first, at most 20: what was heard without a step is not
   * recorded. What is said within a scheduler is heard before anybody knows of it, so that now there is mostly nothing.
   */
  readonly unheard: readonly (MessageLine & { readonly heardSeq: number })[];
  /** Entries of this actor on both sides of it, when there are such. */
  readonly previousSeq?: number;
  readonly nextSeq?: number;
}

const textMax = 2_000;
const saidMax = 100;
const unheardMax = 20;
export const stepsMax = 200;
/** Looked at for one page of a list, found or not. */
const scannedMax = 5_000;

export const bounded = (value: unknown): string => {
  const text = JSON.stringify(value) ?? "";
  return text.length <= textMax ? text : `${text.slice(0, textMax)}… (${text.length} characters)`;
};

export const typeOf = (body: unknown): string =>
  typeof body === "string"
    ? body
    : typeof body === "object" && body !== null && "type" in body
    ? String(body.type)
    : "";

const unknownActor = (address: Address, seq: number): Fault =>
  new Fault("ACTOR_UNKNOWN", `Cannot find ${address.slice(0, 300)} at entry ${seq}: it was not there`);

function labelOf(context: State["context"]): string | undefined {
  const { tag, name } = context as { readonly tag?: string; readonly name?: string };
  return tag || name || undefined;
}

export function lineOf({ address, state, seq, atMs }: Entry): ActorLine {
  const { value, context } = state as State;
  const requestor = (context as Partial<JobContext>).requestor;
  const label = labelOf(context);
  return {
    address,
    kind: kindOf(address),
    state: pathOf(value),
    seq,
    atMs,
    ...(requestor === undefined ? {} : { requestor }),
    ...(label === undefined ? {} : { label }),
    why: explainActor(address, state as State),
  };
}

/** What an actor of this store said, by its id; the id of anybody else's message is not in the store. */
export async function saidBy(states: States, from: Address, id: string): Promise<Said | undefined> {
  const seq = Number(/^([0-9]+)\.[0-9]+$/.exec(id)?.[1]);
  if (!Number.isSafeInteger(seq)) return undefined;
  for await (const { said } of states.history(from, { afterSeq: seq - 1, toSeq: seq, limit: 1 })) {
    return said.find((message) => message.id === id);
  }
  return undefined;
}

export const messageLine = (from: Address, { id, to, body }: Said): MessageLine => ({
  id,
  from,
  to,
  type: typeOf(body),
  body: bounded(body),
});

async function stepOf(states: States, entry: Entry, before: Entry | undefined): Promise<StepLine> {
  const { seq, atMs, epoch, address, cause, said, reason } = entry;
  const heard = await saidBy(states, cause.from, cause.id);
  const then = before?.state as State | undefined;
  const now = entry.state as State | null;
  const old = (then?.context ?? {}) as Record<string, unknown>;
  const next = (now?.context ?? {}) as Record<string, unknown>;
  const body = heard?.body ?? cause.event;
  const isWhole = heard !== undefined || !/^[0-9]+\.[0-9]+$/.test(cause.id);
  const changes = [...new Set([...Object.keys(old), ...Object.keys(next)])].flatMap((key) => {
    const [was, is] = [bounded(old[key]), bounded(next[key])];
    if (was === is && JSON.stringify(old[key]) === JSON.stringify(next[key])) return [];
    return [{ key, ...(was === "" ? {} : { before: was }), ...(is === "" ? {} : { after: is }) }];
  });
  return {
    seq,
    atMs,
    epoch,
    event: messageLine(cause.from, { id: cause.id, to: address, body }),
    taken: isWhole && typeOf(body) !== "" ? takenBy(kindOf(address), then, body as { readonly type: string }) : [],
    ...(then === undefined ? {} : { before: pathOf(then.value) }),
    ...(now === null ? {} : { after: pathOf(now.value) }),
    changes,
    said: said.slice(0, saidMax).map((message) => messageLine(address, message)),
    ...(reason === undefined ? {} : { reason }),
  };
}

/** The entry before one of that actor, as far as it is kept. */
async function entryBefore(states: States, { address, seq }: Entry): Promise<Entry | undefined> {
  const { firstSeq } = await states.bounds();
  return seq <= firstSeq ? undefined : await states.get(address, seq - 1);
}

/** @throws {Fault} `ACTOR_UNKNOWN` */
export async function actorPage(states: States, address: Address, seq: number): Promise<ActorPage> {
  const entry = await states.get(address, seq);
  if (entry === undefined) throw unknownActor(address, seq);
  const before = await entryBefore(states, entry);
  let nextSeq: number | undefined;
  const unheard: ActorPage["unheard"][number][] = [];
  for await (const { seq: heardSeq, cause } of states.history(address, { afterSeq: seq, limit: unheardMax })) {
    nextSeq ??= heardSeq;
    const saidSeq = Number(/^([0-9]+)\.[0-9]+$/.exec(cause.id)?.[1]);
    if (saidSeq > seq) break; // they are heard in the order in which they were said
    if (Number.isNaN(saidSeq)) continue; // from outside
    const said = await saidBy(states, cause.from, cause.id);
    unheard.push({ ...messageLine(cause.from, said ?? { id: cause.id, to: address, body: cause.event }), heardSeq });
  }
  const { value, context } = entry.state as State;
  return {
    ...lineOf(entry),
    version: entry.version,
    value,
    context: Object.entries(context as Record<string, unknown>).map(([key, one]) => ({ key, value: bounded(one) })),
    step: await stepOf(states, entry, before),
    unheard,
    ...(before === undefined ? {} : { previousSeq: before.seq }),
    ...(nextSeq === undefined ? {} : { nextSeq }),
  };
}

/** The steps of an actor up to a moment, the newest first. `next`: the moment from which an older page goes on. */
export async function historyPage(
  states: States,
  address: Address,
  seq: number,
  limit: number,
): Promise<{ readonly steps: readonly StepLine[]; readonly next?: number }> {
  const steps: StepLine[] = [];
  const { firstSeq } = await states.bounds();
  let entry = await states.get(address, seq);
  while (entry !== undefined && entry.seq >= firstSeq && steps.length < limit) {
    const before = await entryBefore(states, entry);
    steps.push(await stepOf(states, entry, before));
    entry = before;
  }
  const isMore = entry !== undefined && entry.seq >= firstSeq;
  return { steps, ...(isMore ? { next: entry!.seq } : {}) };
}

export interface ActorFilter {
  readonly kind: string;
  /** Of a task: only those of that job. */
  readonly within?: string | undefined;
  /** Exactly, or the outer one: "active" finds "active.running". */
  readonly state?: string | undefined;
  readonly requestor?: string | undefined;
  /** Within that of the actor; upper and lower case are the same. */
  readonly label?: string | undefined;
}

/**
 * Actors of a kind at a moment, in byte order of address. A page may be short though more follow: so many were looked at.
 * `next`: the address behind which the next page begins.
 */
export async function actorList(
  states: States,
  seq: number,
  { kind, within, state, requestor, label }: ActorFilter,
  { after, limit }: { readonly after?: string | undefined; readonly limit: number },
): Promise<{ readonly actors: readonly ActorLine[]; readonly next?: string }> {
  const actors: ActorLine[] = [];
  const prefix = kind === "scheduler" ? kind : within === undefined ? `${kind}/` : `${kind}/${within}/`;
  const wanted = label?.toLowerCase() ?? "";
  let scanned = 0;
  // An address of another kind begins nothing here.
  for await (const entry of states.cut(seq, prefix, after?.startsWith(prefix) === true ? after : undefined)) {
    const { value, context } = entry.state as State;
    const path = pathOf(value);
    const isWanted = (state === undefined || path === state || path.startsWith(`${state}.`)) &&
      (requestor === undefined || context.requestor === requestor) &&
      (wanted === "" || labelOf(context)?.toLowerCase().includes(wanted) === true);
    if (isWanted) actors.push(lineOf(entry));
    if (actors.length >= limit || ++scanned >= scannedMax) return { actors, next: entry.address };
  }
  return { actors };
}
