import type { AnyStateMachine } from "xstate";
import { asFault, type Fault, isFault } from "../domain/fault.ts";
import { type Address, kindOf } from "../domain/ids.ts";
import { invariant } from "../domain/invariant.ts";
import { alive, born, type Live, type Message, type State, stateOf, step } from "../machines/step.ts";
import type { Log } from "../observability/log.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Entry, Said, States } from "../snapshots/states/states.ts";
import { timers } from "./timers.ts";

/** A kind of actor: its machine and the version of what the machine saves. */
export interface Kind {
  readonly machine: AnyStateMachine;
  readonly version: number;
}

/** What an actor hears: a type, and plain data. */
export interface HostEvent {
  readonly type: string;
  readonly [field: string]: unknown;
}

export interface HostOptions {
  readonly states: States;
  /** By kind of address: "task" for "task/j…/0". Addresses of other kinds are outside, and reached by `deliver`. */
  readonly kinds: Readonly<Record<string, Kind>>;
  readonly clock: Clock;
  readonly log: Log;
  /** Calls the work soon, after what is already waiting: setImmediate, or the simulation's own. */
  readonly defer: (work: () => void) => void;
  /** Takes what was said to an address outside, once the state behind it is durable. In the order in which it was said. */
  readonly deliver: (to: Address, body: unknown) => void;
  /**
   * Addresses inside this process whose deeds end with it, and are begun anew or cleaned up by a restart: what is said to
   * them need not wait for the disk. None, by default.
   */
  readonly isWithin?: (to: Address) => boolean;
  /** Told of every step before it is durable: indexes are derived here. `after` is undefined when the actor is gone. */
  readonly observe?: (address: Address, before: State | undefined, after: State | undefined) => void;
  /**
   * Asked at a restart, in byte order of address: whether an actor is to be in memory. All are, by default.
   * `adoptedAtMs`: when its newest entry was taken in by {@link Host.adopt}, if it was.
   */
  readonly keep?: (address: Address, state: State, adoptedAtMs: number | undefined) => boolean;
  /**
   * Told once when states can be saved no more, for a reason that trying again does not cure: what is decided in this
   * process will never be durable. End it; a new one begins with what is.
   */
  readonly broken?: (why: Fault) => void;
  /** Told of every batch once it is durable, before what was said in it is delivered. */
  readonly committed?: (entries: readonly Entry[]) => void;
  /** Called at the end of a turn in which nothing internal is left to be heard: decisions that follow from the whole. */
  readonly decide?: () => void;
  /** Called inside of a turn before actors hear that a time has been reached. */
  readonly beforeWaking?: () => void;
  /**
   * How long an entry, or something that is said to the outside, may wait for more to be saved with it; the least of a
   * batch counts. Not at all, by default.
   */
  readonly mayWaitMs?: { readonly entry: (entry: Entry) => number; readonly said?: (body: unknown) => number };
  /** Of messages handled in one turn of the event loop; 500 by default. */
  readonly stepsPerTurn?: number;
}

/**
 * Runs the actors of one process: decide purely, save, then speak (architecture, idea 1).
 *
 * Messages wait in a queue. A turn of the event loop handles some of them: each step is computed, its state and what it
 * said go into the open batch, and what it said to actors of this host joins the queue. When a batch is durable, and not
 * before, what was said to the outside is delivered. One batch is on its way to the disk at a time; meanwhile the next
 * fills. After a crash the states are those of the last durable batch, and the messages between actors that had been said
 * and not heard are heard then: an id is `<seq of the entry>.<place>`, the queue is first in first out, so everything said
 * after the last id that caused an entry is still to be heard.
 */
export interface Host {
  /** Reads the saved states and hears what was unsent. Call once, before anything else. */
  restore(): Promise<void>;
  /**
   * Does the work in a coming turn, in order with all else: work that is enqueued by work never in the same one. Within it {@link Host.tell} and {@link Host.say} may be called.
   */
  enqueue(work: () => void): void;
  /** One step now, inside a turn: the event comes from outside of this host or from `decide`. */
  tell(to: Address, event: HostEvent, from: Address, reason?: string): void;
  /** Something that leaves when all that was decided so far is durable. Inside a turn. */
  say(to: Address, body: unknown): void;
  /** The state of an actor as decided, durable or not. */
  state(address: Address): State | undefined;
  has(address: Address): boolean;
  /** The actor ends, awake, at rest or released: it leaves the current states; its history stays. Inside a turn. */
  remove(address: Address, from: Address, reason: string): void;
  /**
   * Takes in a step that an actor of another store once made, under a new number: it becomes the newest entry of its
   * address, and nothing else happens. Nobody is in memory there, nothing is observed, what it said is not heard. Its ids
   * are kept in a form that counts for nothing here. Inside a turn.
   */
  adopt(past: Omit<Entry, "seq" | "epoch">): void;
  /** The actor leaves memory; what is saved of it stays current. Only for actors that will hear no more. Inside a turn. */
  release(address: Address): void;
  readonly epoch: number;
  /** Must be higher than any before; see {@link Host.lastEpoch}. */
  setEpoch(epoch: number): void;
  readonly lastEpoch: number;
  readonly size: number;
  /** Messages and work that wait to be handled: whoever brings more should pause while it is large. */
  readonly backlog: number;
  /** Resolves when everything decided is durable and delivered. */
  settled(): Promise<void>;
  /** Handles nothing more; resolves when what was decided is durable or, after a failure to save, at once. */
  stop(): Promise<void>;
}

/** Of a message of another store, and of when it was taken in; a second time over, the new time counts. */
const adoptedId = (id: string, atMs: number): string => `i:${atMs}:${id.replace(adoptedPattern, "")}`;
const adoptedPattern = /^i:([0-9]+):/;
const adoptedAtMs = (id: string): number | undefined => {
  const found = adoptedPattern.exec(id);
  return found === null ? undefined : Number(found[1]);
};

interface Row {
  readonly kind: Kind;
  readonly kindName: string;
  /** Awake, or at rest as text: exactly one of the two. */
  live: Live | undefined;
  rest: string | undefined;
}

interface Heard {
  readonly to: Address;
  readonly from: Address;
  readonly id: string;
  readonly event: HostEvent;
}

/** Actors kept awake; the others are at rest. A live snapshot is some 3 KB, a resting one 0.5. */
const awakeMax = 2_000;
/** Entries in the open batch at which turns wait for the disk. */
const openEntriesMax = 20_000;
const commitRetryMs = 1_000;
const clockAddress = "clock" as Address;

/**
 * States at rest as text: the values of a context without their names, which are the same for all actors of a kind. It is
 * half as long as with them.
 */
function restingForm() {
  const shapes: (readonly string[])[] = [];
  const shapeIds = new Map<string, number>();
  /** Of the state before: states of one kind come in rows, and most have the names of the one before. */
  let last = 0;
  const shapeOf = (names: readonly string[]): number => {
    const key = names.join();
    let shape = shapeIds.get(key);
    if (shape === undefined) {
      shape = shapes.push(names) - 1;
      shapeIds.set(key, shape);
    }
    return shape;
  };
  return {
    write({ value, context }: State): string {
      const expected = shapes[last];
      const parts: unknown[] = [last, value];
      let isExpected = expected !== undefined;
      let count = 0;
      for (const name in context) {
        const part = context[name];
        if (part === undefined) continue; // JSON would make it null
        parts.push(part);
        if (isExpected && expected![count] !== name) isExpected = false;
        count++;
      }
      if (!isExpected || count !== expected!.length) {
        last = shapeOf(Object.keys(context).filter((name) => context[name] !== undefined));
        parts[0] = last;
      }
      return JSON.stringify(parts);
    },
    read(text: string): State {
      const [shape, value, ...values] = JSON.parse(text) as [number, unknown, ...unknown[]];
      const context: Record<string, unknown> = {};
      for (const [place, name] of shapes[shape]!.entries()) context[name] = values[place];
      return { value, context };
    },
  };
}

export function createHost(options: HostOptions): Host {
  const { states, kinds, clock, log } = options;
  const stepsPerTurn = options.stepsPerTurn ?? 500;
  const resting = restingForm();
  const rows = new Map<Address, Row>();
  /** Rows that are awake, oldest use first. */
  const awake = new Set<Row>();
  const wakeups = timers<Address>(clock, (due, atMs) =>
    host.enqueue(() => {
      options.beforeWaking?.();
      for (const address of due) {
        if (rows.has(address)) host.tell(address, { type: "clock.reached", atMs }, clockAddress);
      }
    }));

  /** First in, first out; `head` is the next. */
  let inner: (Heard | undefined)[] = [];
  let innerHead = 0;
  let work: (() => void)[] = [];
  let workHead = 0;
  let seq = 0;
  let epoch = 0;
  let lastEpoch = 0;
  let outsideIds = 0;
  let open: { entries: Entry[]; said: { to: Address; body: unknown }[] } = { entries: [], said: [] };
  /** When the open batch is to be saved at the latest. */
  let saveAtMs = Infinity;
  const saveWithin = (ms: number): void => {
    if (saveAtMs > 0) saveAtMs = ms > 0 ? Math.min(saveAtMs, clock.now() + ms) : 0;
  };
  const add = (entry: Entry): void => {
    open.entries.push(entry);
    saveWithin(options.mayWaitMs?.entry(entry) ?? 0);
  };
  /** Said to what is within. */
  let within: { to: Address; body: unknown }[] = [];
  let committing: Promise<void> | undefined;
  let turnWaits = false;
  /** For more to be saved with the open batch. */
  let waiting: { readonly untilMs: number; readonly cancel: () => void } | undefined;
  let isHurried = false;
  let stopped = false;
  let endRetryWait = (): void => {};

  const sayOutside = (to: Address, body: unknown): void => {
    if (options.isWithin?.(to) === true) within.push({ to, body });
    else host.say(to, body);
  };
  const isInner = (to: Address): boolean => Object.hasOwn(kinds, kindOf(to));

  const wake = (row: Row): Live => {
    if (row.live === undefined) {
      invariant(row.rest !== undefined, "a row is awake or at rest");
      row.live = alive(row.kind.machine, resting.read(row.rest));
      row.rest = undefined;
    }
    awake.delete(row);
    awake.add(row);
    return row.live;
  };
  const restOldest = (): void => {
    for (const row of awake) {
      if (awake.size <= awakeMax) return;
      row.rest = resting.write(stateOf(row.live!));
      row.live = undefined;
      awake.delete(row);
    }
  };

  const enter = (
    address: Address,
    row: Row,
    cause: Entry["cause"],
    messages: readonly Message[],
    before: State | undefined,
    reason?: string,
  ): void => {
    const state = stateOf(row.live!);
    const entrySeq = ++seq;
    const said: Said[] = [];
    for (const [place, { to, ...body }] of messages.entries()) {
      const id = `${entrySeq}.${place}`;
      said.push({ id, to, body });
      if (isInner(to)) inner.push({ to, from: address, id, event: body });
      else sayOutside(to, body);
    }
    add({
      seq: entrySeq,
      atMs: clock.now(),
      epoch,
      address,
      machine: row.kindName,
      version: row.kind.version,
      state,
      cause,
      said,
      ...(reason === undefined ? {} : { reason }),
    });
    wakeups.set(address, (state.context as { readonly wakeAtMs?: number }).wakeAtMs);
    options.observe?.(address, before, state);
  };

  const hear = ({ to, from, id, event }: Heard, reason?: string): void => {
    const kindName = kindOf(to);
    const kind = kinds[kindName];
    invariant(kind !== undefined, `nobody here is called ${to}`);
    // What an actor of this host said is saved with who said it, under this id: the type is enough here.
    const cause = { id, from, event: isInner(from) && !id.startsWith("x:") ? { type: event.type } : event };
    try {
      const row = rows.get(to);
      if (row === undefined) {
        if (event.type !== `${kindName}.create`) return; // to one who has gone
        const [live, messages] = born(kind.machine, event["input"]);
        const fresh: Row = { kind, kindName, live, rest: undefined };
        rows.set(to, fresh);
        awake.add(fresh);
        enter(to, fresh, cause, messages, undefined, reason);
      } else {
        if (event.type === `${kindName}.create`) return; // heard before
        const live = wake(row);
        const [next, messages] = step(kind.machine, live, event);
        if (next === live) {
          // Nothing to save. What it says rests on a state that an earlier entry made durable, or will before this leaves.
          for (const { to: whom, ...body } of messages) {
            invariant(!isInner(whom), `${to} said ${body.type} to an actor of this host without a change of its state`);
            sayOutside(whom, body);
          }
        } else {
          const before = stateOf(live);
          row.live = next;
          enter(to, row, cause, messages, before, reason);
        }
      }
      if (awake.size > awakeMax) restOldest();
    } catch (thrown) {
      // A mistake of ours. The actor stays as it was; the others are not harmed.
      log.error("An actor could not take an event", { actor: to, event: event.type, error: asFault(thrown) });
    }
  };

  const nextInner = (): Heard | undefined => {
    const heard = inner[innerHead];
    if (heard === undefined) return undefined;
    inner[innerHead++] = undefined;
    if (innerHead > 4_096 && innerHead * 2 > inner.length) {
      inner = inner.slice(innerHead);
      innerHead = 0;
    }
    return heard;
  };
  const nextWork = (): (() => void) | undefined => {
    const next = work[workHead];
    if (next === undefined) return undefined;
    workHead++;
    if (workHead > 4_096 && workHead * 2 > work.length) {
      work = work.slice(workHead);
      workHead = 0;
    }
    return next;
  };
  const hasInner = (): boolean => innerHead < inner.length;
  const hasMore = (): boolean => hasInner() || workHead < work.length;

  const turn = (): void => {
    turnWaits = false;
    if (stopped) return;
    let worksLeft = work.length - workHead; // what is enqueued by them has a later turn
    for (let steps = 0; steps < stepsPerTurn; steps++) {
      const heard = nextInner();
      if (heard !== undefined) hear(heard);
      else {
        const next = worksLeft-- > 0 ? nextWork() : undefined;
        if (next === undefined) break;
        next();
      }
    }
    if (!hasInner()) options.decide?.();
    if (within.length > 0) {
      const now = within;
      within = [];
      for (const { to, body } of now) options.deliver(to, body);
    }
    flush();
    if (hasMore()) turnSoon();
  };
  const turnSoon = (): void => {
    if (turnWaits || stopped || open.entries.length > openEntriesMax) return;
    turnWaits = true;
    options.defer(turn);
  };

  const flush = (): void => {
    if (committing !== undefined || (open.entries.length === 0 && open.said.length === 0)) return;
    if (saveAtMs > 0 && !isHurried && !stopped) return waitUntil(saveAtMs);
    isHurried = false;
    endWait();
    const batch = open;
    open = { entries: [], said: [] };
    saveAtMs = Infinity;
    if (batch.entries.length === 0) return speak(batch);
    committing = commit(batch.entries).then((durable) => {
      committing = undefined;
      if (!durable) return;
      options.committed?.(batch.entries);
      speak(batch);
      flush();
      if (hasMore()) turnSoon();
    });
  };
  const waitUntil = (atMs: number): void => {
    if (waiting !== undefined && waiting.untilMs <= atMs) return;
    endWait();
    waiting = { untilMs: atMs, cancel: clock.at(atMs, hurry) };
  };
  const endWait = (): void => {
    waiting?.cancel();
    waiting = undefined;
  };
  /** What waits to be saved waits no longer. */
  const hurry = (): void => {
    endWait();
    isHurried = true;
    flush();
  };
  const speak = (batch: typeof open): void => {
    for (const { to, body } of batch.said) options.deliver(to, body);
  };
  /** Until it is on disk nothing of it is known to anyone, so trying again is always right. */
  const commit = async (entries: readonly Entry[]): Promise<boolean> => {
    for (;;) {
      try {
        await states.commit(entries);
        return true;
      } catch (thrown) {
        const fault = asFault(thrown);
        const isHopeless = !isFault(fault, "NO_SPACE");
        log.error(`Cannot save what was decided${isHopeless ? "" : "; trying again"}`, {
          entries: entries.length,
          error: fault,
        });
        if (isHopeless) {
          stopped = true;
          wakeups.close();
          options.broken?.(fault);
        }
        if (stopped) return false;
        await new Promise<void>((resolve) => {
          const cancel = clock.at(clock.now() + commitRetryMs, resolve);
          endRetryWait = () => {
            cancel();
            resolve();
          };
        });
        if (stopped) return false;
      }
    }
  };

  const host: Host = {
    async restore() {
      const tail = await states.tail(isInner);
      /** Nobody is woken before all are here. */
      const wakeAt: [Address, number][] = [];
      seq = tail.lastSeq;
      lastEpoch = tail.lastEpoch;
      epoch = lastEpoch;
      for await (const page of states.standing()) {
        for (const { address, version, causeId, state: saved } of page) {
          const kindName = kindOf(address);
          const kind = kinds[kindName];
          if (kind === undefined) continue;
          if (version !== kind.version) {
            throw asFault(
              new Error(`its state has version ${version}, this program knows ${kind.version}`),
              `Cannot wake ${address}`,
            );
          }
          const state = saved as State;
          if (options.keep?.(address, state, adoptedAtMs(causeId)) === false) continue;
          rows.set(address, { kind, kindName, live: undefined, rest: resting.write(state) });
          const { wakeAtMs } = state.context as { readonly wakeAtMs?: number };
          if (wakeAtMs !== undefined) wakeAt.push([address, wakeAtMs]);
          options.observe?.(address, undefined, state);
        }
      }
      for (const [address, atMs] of wakeAt) wakeups.set(address, atMs);
      for (const { id, from, to, body } of tail.unsent) inner.push({ id, from, to, event: body as HostEvent });
      if (hasMore()) turnSoon();
    },
    enqueue(next) {
      if (stopped) return;
      work.push(next);
      turnSoon();
    },
    tell(to, event, from, reason) {
      hear({ to, from, id: `x:${++outsideIds}`, event }, reason);
    },
    say(to, body) {
      open.said.push({ to, body });
      saveWithin(options.mayWaitMs?.said?.(body) ?? 0);
    },
    state(address) {
      const row = rows.get(address);
      if (row === undefined) return undefined;
      return row.live === undefined ? resting.read(row.rest!) : stateOf(row.live);
    },
    has: (address) => rows.has(address),
    remove(address, from, reason) {
      const before = host.state(address);
      const kindName = kindOf(address);
      host.release(address);
      add({
        seq: ++seq,
        atMs: clock.now(),
        epoch,
        address,
        machine: kindName,
        version: kinds[kindName]!.version,
        state: null,
        cause: { id: `x:${++outsideIds}`, from, event: { type: "remove" } },
        said: [],
        reason,
      });
      if (before !== undefined) options.observe?.(address, before, undefined);
    },
    adopt({ address, atMs, machine, version, state, cause, said, reason }) {
      invariant(!rows.has(address), `${address} is here, and so cannot be taken in from elsewhere`);
      const nowMs = clock.now();
      add({
        seq: ++seq,
        atMs,
        epoch,
        address,
        machine,
        version,
        state,
        cause: { ...cause, id: adoptedId(cause.id, nowMs) },
        said: said.map((message) => ({ ...message, id: adoptedId(message.id, nowMs) })),
        ...(reason === undefined ? {} : { reason }),
      });
    },
    release(address) {
      const row = rows.get(address);
      if (row === undefined) return;
      rows.delete(address);
      awake.delete(row);
      wakeups.set(address, undefined);
    },
    get epoch() {
      return epoch;
    },
    setEpoch(next) {
      invariant(next > lastEpoch, `epoch ${next} must be above ${lastEpoch}`);
      epoch = next;
    },
    get lastEpoch() {
      return lastEpoch;
    },
    get size() {
      return rows.size;
    },
    get backlog() {
      return inner.length - innerHead + work.length - workHead;
    },
    async settled() {
      while (!stopped && (hasMore() || turnWaits || committing !== undefined || waiting !== undefined)) {
        if (waiting !== undefined) hurry();
        await (committing ?? new Promise<void>((resolve) => options.defer(resolve)));
      }
    },
    async stop() {
      stopped = true;
      wakeups.close();
      endRetryWait();
      if (waiting !== undefined) hurry();
      while (committing !== undefined) await committing; // one batch leads to the next
    },
  };
  return host;
}
