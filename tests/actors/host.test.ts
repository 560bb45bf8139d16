import { describe, expect, test } from "vitest";
import { assign, emit, enqueueActions, setup } from "xstate";
import { createHost, type Host, type HostOptions } from "../../src/actors/host.ts";
import { Fault } from "../../src/domain/fault.ts";
import type { Address } from "../../src/domain/ids.ts";
import { type Life, newLife, type VirtualTime, virtualTime } from "../../src/simulation/time.ts";
import { memoryStates } from "../../src/snapshots/states/memory.ts";
import type { Entry, States } from "../../src/snapshots/states/states.ts";

/** Counts, tells others, throws, and asks to be woken: whatever a host has to do with. */
interface Counter {
  readonly count: number;
  readonly wokenAtMs?: number;
  readonly wakeAtMs?: number | undefined;
}
type CounterEvent =
  | { readonly type: "add" | "throw" | "sayUnchanged" | "sayInsideUnchanged" }
  /** Counts, and passes the rest of the route on. */
  | { readonly type: "pass"; readonly route: readonly Address[] }
  | { readonly type: "say"; readonly word: string }
  | { readonly type: "wakeAt"; readonly atMs?: number }
  | { readonly type: "clock.reached"; readonly atMs: number };
type Said = { readonly type: string; readonly to: Address; readonly [field: string]: unknown };

const outside = "member/outside" as Address;
const here = "test" as Address;
const counter = (name: string | number): Address => `counter/${name}` as Address;

const counterMachine = setup({
  types: {
    input: {} as { readonly throws?: boolean },
    context: {} as Counter,
    events: {} as CounterEvent,
    emitted: {} as Said,
  },
  actions: { add: assign(({ context }) => ({ count: context.count + 1 })) },
}).createMachine({
  context: ({ input }) => {
    if (input.throws === true) throw new Error("born wrong");
    return { count: 0 };
  },
  on: {
    add: { actions: "add" },
    pass: {
      actions: [
        "add",
        enqueueActions(({ event, enqueue }) => {
          const [next, ...route] = event.route;
          if (next !== undefined) enqueue.emit({ type: "pass", to: next, route });
        }),
      ],
    },
    say: { actions: ["add", emit(({ event }) => ({ type: "word", to: outside, word: event.word }))] },
    sayUnchanged: { actions: emit({ type: "word", to: outside, word: "unchanged" }) },
    sayInsideUnchanged: { actions: emit({ type: "add", to: counter("b") }) },
    wakeAt: { actions: assign(({ event }) => ({ wakeAtMs: event.atMs })) },
    throw: {
      actions: [
        "add",
        () => {
          throw new Error("a mistake of ours");
        },
      ],
    },
    "clock.reached": { actions: assign(({ event }) => ({ wokenAtMs: event.atMs, wakeAtMs: undefined })) },
  },
});

/** A store whose disk is slow or full when a test wants it. */
interface Disk extends States {
  /** While set, a commit waits for it. */
  hold: Promise<void> | undefined;
  /** So many commits fail first. */
  failures: number;
  readonly commits: (readonly Entry[])[];
}
function disk(inner: States = memoryStates()): Disk {
  const self: Disk = {
    ...inner,
    hold: undefined,
    failures: 0,
    commits: [],
    async commit(entries) {
      await self.hold;
      if (self.failures > 0) {
        self.failures--;
        throw new Fault("NO_SPACE", "Cannot write as the disk is full");
      }
      await inner.commit(entries);
      self.commits.push(entries);
    },
  };
  return self;
}
function latch(): { readonly promise: Promise<void>; readonly open: () => void } {
  let open = (): void => {};
  const promise = new Promise<void>((resolve) => open = resolve);
  return { promise, open };
}

interface OneLife {
  readonly host: Host;
  readonly life: Life;
  /** What was delivered outside, in order: bodies. */
  readonly heard: unknown[];
  readonly errors: (readonly [string, Readonly<Record<string, unknown>> | undefined])[];
  /** Does it in a turn, and waits until it is durable and delivered. */
  readonly turn: (work: (host: Host) => void) => Promise<void>;
}

/** One life of a process over a store: kill it, and start another over the same. */
async function start(time: VirtualTime, states: States, options: Partial<HostOptions> = {}): Promise<OneLife> {
  const life = newLife(time);
  const heard: unknown[] = [];
  const errors: (readonly [string, Readonly<Record<string, unknown>> | undefined])[] = [];
  const host = createHost({
    states,
    kinds: { counter: { machine: counterMachine, version: 1 } },
    clock: life,
    log: { info: () => {}, warn: () => {}, error: (message, fields) => errors.push([message, fields]) },
    defer: life.soon,
    deliver: (_, body) => heard.push(body),
    ...options,
  });
  await host.restore();
  const turn = async (work: (host: Host) => void): Promise<void> => {
    host.enqueue(() => work(host));
    await quiet(time);
  };
  return { host, life, heard, errors, turn };
}
/** Lets everything happen that is planned for now. */
const quiet = async (time: VirtualTime): Promise<void> => void await time.run(time.now(), () => false);
const pass = async (time: VirtualTime, ms: number): Promise<void> => void await time.run(time.now() + ms, () => false);

const create = (host: Host, ...names: readonly (string | number)[]): void =>
  names.forEach((name) => host.tell(counter(name), { type: "counter.create", input: {} }, here));
const countOf = (host: Host, name: string | number): number | undefined =>
  (host.state(counter(name))?.context as Counter | undefined)?.count;
const word = (text: string) => ({ type: "word", word: text });

describe("a host saves before it speaks", () => {
  test("what is said outside leaves only when its state is durable", async () => {
    const time = virtualTime();
    const states = disk();
    const { host, heard, turn } = await start(time, states);
    const { promise, open } = latch();
    states.hold = promise;
    await turn(() => {
      create(host, "a");
      host.tell(counter("a"), { type: "say", word: "hello" }, here);
    });
    expect(countOf(host, "a")).toBe(1);
    expect(heard).toEqual([]);
    open();
    await quiet(time);
    expect(heard).toEqual([word("hello")]);
  });

  test("what is said by the way waits for what was decided before it", async () => {
    const time = virtualTime();
    const states = disk();
    const { host, heard, turn } = await start(time, states);
    const { promise, open } = latch();
    states.hold = promise;
    await turn(() => {
      create(host, "a");
      host.say(outside, "accepted");
    });
    await turn(() => host.say(outside, "later"));
    expect(heard).toEqual([]);
    open();
    await quiet(time);
    expect(heard).toEqual(["accepted", "later"]);
  });

  test("words of an event that changed nothing wait as well, and make no entry", async () => {
    const time = virtualTime();
    const states = disk();
    const { host, heard, turn } = await start(time, states);
    await turn(() => create(host, "a"));
    const entries = states.commits.flat().length;
    const { promise, open } = latch();
    states.hold = promise;
    await turn(() => {
      host.tell(counter("a"), { type: "add" }, here);
      host.tell(counter("a"), { type: "sayUnchanged" }, here);
    });
    expect(heard).toEqual([]);
    open();
    await quiet(time);
    expect(heard).toEqual([word("unchanged")]);
    expect(states.commits.flat()).toHaveLength(entries + 1);
  });

  test("one batch is on its way at a time; what is decided meanwhile is the next one", async () => {
    const time = virtualTime();
    const states = disk();
    const { host, turn } = await start(time, states);
    await turn(() => create(host, "a"));
    const { promise, open } = latch();
    states.hold = promise;
    for (let n = 0; n < 5; n++) await turn(() => host.tell(counter("a"), { type: "add" }, here));
    open();
    await quiet(time);
    expect(states.commits.map((entries) => entries.length)).toEqual([1, 1, 4]);
    expect(states.commits.flat().map((entry) => entry.seq)).toEqual([1, 2, 3, 4, 5, 6]);
  });

  test("a commit that fails is tried again until it succeeds, and nothing is said meanwhile", async () => {
    const time = virtualTime();
    const states = disk();
    const { host, heard, errors, turn } = await start(time, states);
    await turn(() => create(host, "a"));
    states.failures = 3;
    await turn(() => host.tell(counter("a"), { type: "say", word: "one" }, here));
    await turn(() => host.tell(counter("a"), { type: "say", word: "two" }, here));
    await pass(time, 2_500);
    expect(heard).toEqual([]);
    expect(errors).toHaveLength(3);
    await pass(time, 1_000);
    expect(heard).toEqual([word("one"), word("two")]);
    expect((await states.get(counter("a")))!.state).toMatchObject({ context: { count: 2 } });
  });

  test("a commit that fails for good is the end: nothing is tried again, said or decided, and who can end it is told", async () => {
    const time = virtualTime();
    const states = disk();
    const broken: string[] = [];
    const { host, heard, errors, turn } = await start(time, states, { broken: (why) => broken.push(why.message) });
    await turn(() => create(host, "a"));
    states.commit = () => Promise.reject(Object.assign(new Error("EIO: i/o error, fdatasync"), { code: "EIO" }));
    await turn(() => host.tell(counter("a"), { type: "say", word: "one" }, here));
    await turn(() => host.tell(counter("a"), { type: "say", word: "two" }, here));
    await pass(time, 60_000);
    expect(broken).toEqual(["EIO: i/o error, fdatasync"]);
    expect(errors).toHaveLength(1);
    expect(heard).toEqual([]);
    await host.stop();
  });

  test("`committed` is told of a batch after it is durable and before it is spoken of", async () => {
    const time = virtualTime();
    const order: string[] = [];
    const states = disk();
    const { host, turn } = await start(time, states, {
      committed: (entries) => order.push(`committed ${entries.length}, ${states.commits.length} on disk`),
      deliver: () => order.push("delivered"),
    });
    await turn(() => {
      create(host, "a");
      host.tell(counter("a"), { type: "say", word: "x" }, here);
    });
    expect(order).toEqual(["committed 2, 1 on disk", "delivered"]);
  });
});

describe("a host that may save later", () => {
  const later = { mayWaitMs: { entry: () => 100 } };

  test("saves what says nothing to the outside together with what follows, and after its time at the latest", async () => {
    const time = virtualTime();
    const states = disk();
    const { turn } = await start(time, states, later);
    await turn((host) => create(host, "a"));
    await pass(time, 60);
    await turn((host) => host.tell(counter("a"), { type: "add" }, here));
    expect(states.commits).toEqual([]);
    await pass(time, 40);
    expect(states.commits.map((entries) => entries.length)).toEqual([2]);
  });

  test("does not wait when something is to be said", async () => {
    const time = virtualTime();
    const states = disk();
    const { heard, turn } = await start(time, states, later);
    await turn((host) => create(host, "a"));
    await turn((host) => host.tell(counter("a"), { type: "say", word: "now" }, here));
    expect(heard).toEqual([word("now")]);
    expect(states.commits.map((entries) => entries.length)).toEqual([2]);
    await pass(time, 1_000);
    expect(states.commits).toHaveLength(1);
  });

  test("does not wait with an entry for which somebody waits, and takes with it those that do", async () => {
    const time = virtualTime();
    const states = disk();
    const entry = ({ cause }: Entry): number => (cause.event as { readonly type: string }).type === "add" ? 100 : 0;
    const { turn } = await start(time, states, { mayWaitMs: { entry } });
    await turn((host) => create(host, "a"));
    expect(states.commits.map((entries) => entries.length)).toEqual([1]);
    await turn((host) => host.tell(counter("a"), { type: "add" }, here));
    expect(states.commits).toHaveLength(1);
    await turn((host) => create(host, "b"));
    await turn((host) => host.tell(counter("b"), { type: "add" }, here));
    expect(states.commits.map((entries) => entries.length)).toEqual([1, 2]);
    await pass(time, 100);
    expect(states.commits.map((entries) => entries.length)).toEqual([1, 2, 1]);
  });

  test("waits as long as the least patient of what it has to save and to say", async () => {
    const time = virtualTime();
    const states = disk();
    const said = (body: unknown): number => (body as { readonly word: string }).word === "soon" ? 20 : 0;
    const { heard, turn } = await start(time, states, { mayWaitMs: { entry: () => 100, said } });
    await turn((host) => create(host, "a"));
    await pass(time, 10);
    await turn((host) => host.tell(counter("a"), { type: "say", word: "soon" }, here));
    await pass(time, 19);
    expect(states.commits).toEqual([]);
    expect(heard).toEqual([]);
    await pass(time, 1);
    expect(states.commits.map((entries) => entries.length)).toEqual([2]);
    expect(heard).toEqual([word("soon")]);
    await pass(time, 1_000);
    expect(states.commits).toHaveLength(1);
  });

  test("does not wait when it is to be settled, or to stop, also with a batch under way", async () => {
    const time = virtualTime();
    const states = disk();
    const { host, turn } = await start(time, states, later);
    await turn(() => create(host, "a"));
    const settled = host.settled();
    await quiet(time);
    await settled;
    expect(states.commits).toHaveLength(1);

    const { promise, open } = latch();
    states.hold = promise;
    await turn(() => host.tell(counter("a"), { type: "say", word: "x" }, here));
    await turn(() => host.tell(counter("a"), { type: "add" }, here));
    const stopped = host.stop();
    open();
    await stopped;
    expect((await states.get(counter("a")))!.state).toMatchObject({ context: { count: 2 } });
  });
});

test("what is said to who ends with this process does not wait for the disk, and all else does", async () => {
  const time = virtualTime();
  const states = disk();
  const { heard, turn } = await start(time, states, { isWithin: (to) => to === outside });
  const { promise, open } = latch();
  states.hold = promise;
  await turn((host) => {
    create(host, "a");
    host.tell(counter("a"), { type: "say", word: "within" }, here);
    host.say("member/far" as Address, "far");
  });
  expect(heard).toEqual([word("within")]);
  open();
  await quiet(time);
  expect(heard).toEqual([word("within"), "far"]);
});

describe("an entry that is taken in from another store", () => {
  const past = (name: string, said: Entry["said"] = []): Omit<Entry, "seq" | "epoch"> => ({
    address: counter(name),
    atMs: 5,
    machine: "counter",
    version: 1,
    state: { value: {}, context: { count: 41 } },
    cause: { id: "900.7", from: here, event: { type: "add" } },
    said,
  });

  test("is the newest of its actor, who is not here until the next start", async () => {
    const time = virtualTime();
    const states = disk();
    const seen: Address[] = [];
    const first = await start(time, states, { observe: (address) => void seen.push(address) });
    const adoptedAtMs = time.now();
    await first.turn((host) => host.adopt(past("a")));
    expect([first.host.has(counter("a")), seen]).toEqual([false, []]);
    expect(await states.get(counter("a"))).toMatchObject({ seq: 1, atMs: 5, state: { context: { count: 41 } } });
    first.life.kill();

    const times: (number | undefined)[] = [];
    const second = await start(time, states, { keep: (_, __, atMs) => times.push(atMs) > 0 });
    expect(times).toEqual([adoptedAtMs]);
    expect(countOf(second.host, "a")).toBe(41);
    await second.turn((host) => expect(() => host.adopt(past("a"))).toThrow("cannot be taken in"));
  });

  test("says nothing here, now or after a restart, and hides nothing that is still to be heard", async () => {
    const time = virtualTime();
    const states = disk();
    const first = await start(time, states, { stepsPerTurn: 1 });
    await first.turn((host) => create(host, "b", "c"));
    const { promise } = latch();
    first.host.enqueue(() => {
      first.host.tell(counter("b"), { type: "pass", route: [counter("c")] }, here);
      first.host.adopt(past("a", [{ id: "901.0", to: counter("c"), body: { type: "add" } }]));
      queueMicrotask(() => states.hold = promise);
    });
    await quiet(time);
    first.life.kill();
    states.hold = undefined;
    const second = await start(time, states);
    await quiet(time);
    expect(countOf(second.host, "c")).toBe(1); // of b's passing on alone
  });
});

describe("messages between actors", () => {
  test("are heard within the batch, first in, first out, and never outside", async () => {
    const time = virtualTime();
    const states = disk();
    const { host, heard, turn } = await start(time, states);
    await turn(() => {
      create(host, "a", "b", "c");
      host.tell(counter("a"), { type: "pass", route: [counter("b"), counter("c"), counter("a")] }, here);
    });
    expect(["a", "b", "c"].map((name) => countOf(host, name))).toEqual([2, 1, 1]);
    expect(heard).toEqual([]);
    const causes = states.commits.flat().slice(3).map(({ address, cause }) => [address, cause.from, cause.id]);
    expect(causes).toEqual([
      [counter("a"), here, "x:4"],
      [counter("b"), counter("a"), "4.0"],
      [counter("c"), counter("b"), "5.0"],
      [counter("a"), counter("c"), "6.0"],
    ]);
  });

  test("may not rest on a state that was not saved", async () => {
    const time = virtualTime();
    const { host, errors, turn } = await start(time, disk());
    await turn(() => {
      create(host, "a", "b");
      host.tell(counter("a"), { type: "sayInsideUnchanged" }, here);
    });
    expect(errors).toHaveLength(1);
    expect(countOf(host, "b")).toBe(0);
  });

  test("to nobody are dropped, and a second creation changes nothing", async () => {
    const time = virtualTime();
    const states = disk();
    const { host, errors, turn } = await start(time, states);
    await turn(() => {
      host.tell(counter("nobody"), { type: "add" }, here);
      create(host, "a");
      host.tell(counter("a"), { type: "add" }, here);
      create(host, "a");
    });
    expect(host.size).toBe(1);
    expect(countOf(host, "a")).toBe(1);
    expect(errors).toEqual([]);
    expect(states.commits.flat()).toHaveLength(2);
  });

  test("share the event loop: a turn handles at most its steps, and `decide` waits until none is left", async () => {
    const time = virtualTime();
    const seen: string[] = [];
    const { host } = await start(time, disk(), { stepsPerTurn: 2, decide: () => seen.push("decide") });
    host.enqueue(() => {
      create(host, "a", "b");
      host.tell(counter("a"), { type: "pass", route: Array.from({ length: 9 }, () => counter("b")) }, here);
    });
    let turns = 0;
    const other = (): void => {
      if (host.backlog === 0) return;
      turns++;
      time.soon(other);
    };
    other();
    await quiet(time);
    expect(countOf(host, "b")).toBe(9);
    expect(turns).toBeGreaterThan(3);
    expect(seen).toEqual(["decide"]);
  });

  test("work that is enqueued by work has a later turn, so that a long one may be done in pieces", async () => {
    const time = virtualTime();
    const seen: string[] = [];
    const { host } = await start(time, disk(), { decide: () => seen.push("decide") });
    const pieces = (left: number): void => {
      seen.push(`piece ${left}`);
      if (left > 1) host.enqueue(() => pieces(left - 1));
    };
    host.enqueue(() => pieces(3));
    host.enqueue(() => seen.push("other"));
    await quiet(time);
    expect(seen).toEqual(["piece 3", "other", "decide", "piece 2", "decide", "piece 1", "decide"]);
  });
});

describe("after a crash", () => {
  test("what was said and not heard is heard, once", async () => {
    const time = virtualTime();
    const states = disk();
    const first = await start(time, states, { stepsPerTurn: 1 });
    await first.turn((host) => create(host, "a", "b", "c"));
    const { promise } = latch(); // the disk takes the first step, and never the second
    first.host.enqueue(() => {
      first.host.tell(counter("a"), { type: "pass", route: [counter("b"), counter("c")] }, here);
      queueMicrotask(() => states.hold = promise);
    });
    await quiet(time);
    expect(states.commits.at(-1)!.map((entry) => entry.address)).toEqual([counter("a")]);
    first.life.kill();
    states.hold = undefined;

    const second = await start(time, states);
    expect(countOf(second.host, "b")).toBe(0);
    await quiet(time);
    expect(["a", "b", "c"].map((name) => countOf(second.host, name))).toEqual([1, 1, 1]);
    second.life.kill();

    const third = await start(time, states);
    await quiet(time);
    expect(["a", "b", "c"].map((name) => countOf(third.host, name))).toEqual([1, 1, 1]);
  });

  test("what was not durable has not happened, and was not said", async () => {
    const time = virtualTime();
    const states = disk();
    const first = await start(time, states);
    await first.turn((host) => create(host, "a"));
    states.hold = latch().promise;
    await first.turn((host) => host.tell(counter("a"), { type: "say", word: "never" }, here));
    first.life.kill();
    states.hold = undefined;
    const second = await start(time, states);
    await quiet(time);
    expect(countOf(second.host, "a")).toBe(0);
    expect([first.heard, second.heard]).toEqual([[], []]);
  });

  test("a deadline is kept, also one that passed meanwhile", async () => {
    const time = virtualTime();
    const states = disk();
    const first = await start(time, states);
    const atMs = time.now() + 5_000;
    await first.turn((host) => {
      create(host, "a", "b");
      host.tell(counter("a"), { type: "wakeAt", atMs }, here);
      host.tell(counter("b"), { type: "wakeAt", atMs: atMs + 60_000 }, here);
    });
    first.life.kill();
    await pass(time, 20_000);
    const second = await start(time, states);
    await pass(time, 1_000);
    expect(second.host.state(counter("a"))!.context).toMatchObject({ wokenAtMs: time.now() - 1_000 });
    expect(second.host.state(counter("b"))!.context).not.toHaveProperty("wokenAtMs");
    await pass(time, 60_000);
    expect(second.host.state(counter("b"))!.context.wokenAtMs).toBeGreaterThanOrEqual(atMs + 60_000);
  });

  test("nobody is woken before all are here", async () => {
    const time = virtualTime();
    const states = disk();
    const first = await start(time, states);
    await first.turn((host) => {
      create(host, "a", "b");
      host.tell(counter("a"), { type: "wakeAt", atMs: time.now() + 500 }, here);
    });
    first.life.kill();
    await pass(time, 1_000);
    async function* slowly(prefix?: string): AsyncGenerator<Entry> {
      for await (const entry of states.current(prefix)) {
        yield entry;
        await new Promise<void>((resolve) => time.at(time.now() + 1_000, resolve));
      }
    }
    const seen: (readonly [Address, boolean])[] = [];
    const starting = start(time, { ...states, current: slowly }, {
      observe: (address, before) => seen.push([address, before === undefined]),
    });
    await pass(time, 5_000);
    await starting;
    await pass(time, 1_000);
    expect(seen).toEqual([[counter("a"), true], [counter("b"), true], [counter("a"), false]]);
  });

  test("only those are in memory that are to be kept, and each is told to whoever derives from them", async () => {
    const time = virtualTime();
    const states = disk();
    const first = await start(time, states);
    await first.turn((host) => create(host, "a", "b", "c"));
    first.life.kill();
    const seen: Address[] = [];
    const second = await start(time, states, {
      keep: (address) => address !== counter("b"),
      observe: (address, before, after) => {
        if (before === undefined && after !== undefined) seen.push(address);
      },
    });
    expect(seen).toEqual([counter("a"), counter("c")]);
    expect(second.host.has(counter("b"))).toBe(false);
    expect(await states.get(counter("b"))).toBeDefined();
  });

  test("a state of a version that this program does not know is refused, and named", async () => {
    const time = virtualTime();
    const states = disk();
    const first = await start(time, states);
    await first.turn((host) => create(host, "a"));
    first.life.kill();
    await expect(start(time, states, { kinds: { counter: { machine: counterMachine, version: 2 } } }))
      .rejects.toThrow("Cannot wake counter/a: its state has version 1, this program knows 2");
  });

  test("the epoch goes on from the last one that was saved, and never falls", async () => {
    const time = virtualTime();
    const states = disk();
    const first = await start(time, states);
    first.host.setEpoch(1);
    await first.turn((host) => create(host, "a"));
    first.life.kill();
    const second = await start(time, states);
    expect(second.host.lastEpoch).toBe(1);
    expect(() => second.host.setEpoch(1)).toThrow("epoch 1 must be above 1");
    second.host.setEpoch(2);
    await second.turn((host) => host.tell(counter("a"), { type: "add" }, here));
    expect((await states.get(counter("a")))!.epoch).toBe(2);
  });
});

describe("rows", () => {
  test("at rest are as they were: more actors than are kept awake all keep their count", async () => {
    const time = virtualTime();
    const states = disk();
    const { host, turn } = await start(time, states);
    const many = Array.from({ length: 2_500 }, (_, index) => index);
    await turn(() => create(host, ...many));
    for (let round = 0; round < 2; round++) {
      await turn(() => many.forEach((name) => host.tell(counter(name), { type: "add" }, here)));
    }
    expect(many.filter((name) => countOf(host, name) !== 2)).toEqual([]);
    expect((await states.get(counter(7)))!.state).toMatchObject({ context: { count: 2 } });
  });

  test("at rest keep what is undefined so: a deadline that was taken back does not come back", async () => {
    const time = virtualTime();
    const { host, turn } = await start(time, disk());
    const many = Array.from({ length: 2_500 }, (_, index) => index);
    await turn(() => create(host, ...many));
    await turn(() => many.forEach((name) => host.tell(counter(name), { type: "wakeAt" }, here)));
    await turn(() => many.forEach((name) => host.tell(counter(name), { type: "add" }, here)));
    await pass(time, 1_000);
    const contexts = many.map((name) => host.state(counter(name))!.context as Counter);
    expect(contexts.filter(({ count, wakeAtMs, wokenAtMs }) => count !== 1 || wakeAtMs !== undefined || wokenAtMs))
      .toEqual([]);
  });

  test("wake at their deadline, and not when it was taken back or moved", async () => {
    const time = virtualTime();
    const { host, turn } = await start(time, disk());
    const atMs = time.now() + 10_000;
    await turn(() => {
      create(host, "early", "back", "moved");
      for (const name of ["early", "back", "moved"]) host.tell(counter(name), { type: "wakeAt", atMs }, here);
      host.tell(counter("back"), { type: "wakeAt" }, here);
      host.tell(counter("moved"), { type: "wakeAt", atMs: atMs + 5_000 }, here);
    });
    await pass(time, 9_999);
    expect(host.state(counter("early"))!.context).not.toHaveProperty("wokenAtMs");
    await pass(time, 300);
    const woken = (name: string): number | undefined => (host.state(counter(name))!.context as Counter).wokenAtMs;
    expect(woken("early")).toBeGreaterThanOrEqual(atMs);
    expect(woken("early")).toBeLessThan(atMs + 300);
    expect([woken("back"), woken("moved")]).toEqual([undefined, undefined]);
    await pass(time, 5_000);
    expect(woken("moved")).toBeGreaterThanOrEqual(atMs + 5_000);
    expect(woken("back")).toBeUndefined();
  });

  test("that are removed leave the current states and keep their history; a released one stays current", async () => {
    const time = virtualTime();
    const states = disk();
    const seen: (readonly [Address, boolean])[] = [];
    const { host, turn } = await start(time, states, {
      observe: (address, _, after) => void seen.push([address, after !== undefined]),
    });
    await turn(() => create(host, "gone", "released"));
    await turn(() => {
      host.remove(counter("gone"), here, "It is old");
      host.release(counter("released"));
    });
    expect(host.size).toBe(0);
    expect(await states.get(counter("gone"))).toBeUndefined();
    expect(await states.get(counter("released"))).toBeDefined();
    const history = [];
    for await (const entry of states.history(counter("gone"))) history.push(entry);
    expect(history.map((entry) => [entry.state === null, entry.reason])).toEqual([[false, undefined], [
      true,
      "It is old",
    ]]);
    expect(seen.at(-1)).toEqual([counter("gone"), false]);
  });
});

describe("a mistake in a machine", () => {
  test("harms only its actor, which stays as it was and is named in the log", async () => {
    const time = virtualTime();
    const states = disk();
    const { host, heard, errors, turn } = await start(time, states);
    await turn(() => {
      create(host, "a", "b");
      host.tell(counter("a"), { type: "add" }, here);
      host.tell(counter("a"), { type: "throw" }, here);
      host.tell(counter("b"), { type: "say", word: "alive" }, here);
    });
    expect(countOf(host, "a")).toBe(1);
    expect(heard).toEqual([word("alive")]);
    expect(errors).toMatchObject([["An actor could not take an event", { actor: counter("a"), event: "throw" }]]);
    await turn(() => host.tell(counter("a"), { type: "add" }, here));
    expect((await states.get(counter("a")))!.state).toMatchObject({ context: { count: 2 } });
  });

  test("at birth leaves no actor", async () => {
    const time = virtualTime();
    const states = disk();
    const { host, errors, turn } = await start(time, states);
    await turn(() => host.tell(counter("a"), { type: "counter.create", input: { throws: true } }, here));
    expect(host.has(counter("a"))).toBe(false);
    expect(errors).toHaveLength(1);
    expect(states.commits).toEqual([]);
  });
});

describe("stop()", () => {
  test("waits for all that was decided, also for the batch after the one under way", async () => {
    const time = virtualTime();
    const states = disk();
    const { host, turn } = await start(time, states);
    const first = latch();
    const second = latch();
    states.hold = first.promise;
    await turn(() => create(host, "a"));
    states.hold = second.promise;
    await turn(() => host.tell(counter("a"), { type: "add" }, here));
    let stopped = false;
    const stopping = host.stop().then(() => stopped = true);
    for (const { open } of [first, second]) {
      await quiet(time);
      expect(stopped).toBe(false);
      open();
    }
    await stopping;
    expect((await states.get(counter("a")))!.state).toMatchObject({ context: { count: 1 } });
    await turn(() => create(host, "b"));
    expect(host.has(counter("b"))).toBe(false);
  });

  test("does not wait for a disk that is full", async () => {
    const time = virtualTime();
    const states = disk();
    const { host, turn } = await start(time, states);
    states.failures = Infinity;
    await turn(() => create(host, "a"));
    await host.stop();
    expect(states.commits).toEqual([]);
  });
});

test("settled() resolves when everything decided is durable and delivered", async () => {
  const time = virtualTime();
  const { host, heard } = await start(time, disk(), { stepsPerTurn: 1 });
  host.enqueue(() => {
    create(host, "a", "b");
    host.tell(counter("a"), { type: "pass", route: [counter("b"), counter("b")] }, here);
    host.tell(counter("a"), { type: "say", word: "done" }, here);
  });
  let settled = false;
  void host.settled().then(() => settled = true);
  await quiet(time);
  expect(settled).toBe(true);
  expect(heard).toEqual([word("done")]);
  expect(countOf(host, "b")).toBe(2);
});
