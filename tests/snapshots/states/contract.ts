import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import type { Address } from "../../../src/domain/ids.ts";
import type { Entry, Said, States } from "../../../src/snapshots/states/states.ts";

/** An entry with what a test does not care about filled in. */
export function entry(seq: number, address: string, rest: Partial<Omit<Entry, "seq" | "address">> = {}): Entry {
  return {
    seq,
    atMs: 1_000 + seq,
    epoch: 1,
    address: address as Address,
    machine: "task",
    version: 1,
    state: { value: "queued", context: { attempt: seq } },
    cause: { id: `x:${seq}`, from: "scheduler" as Address, event: { type: "task.placed" } },
    said: [],
    ...rest,
  };
}

export const said = (seq: number, place: number, to: string): Said => ({
  id: `${seq}.${place}`,
  to: to as Address,
  body: { type: "told", place },
});

export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

const isInternal = (to: Address): boolean => !to.startsWith("member/");
const addressesOf = (entries: readonly { readonly address: string }[]): string[] =>
  entries.map(({ address }) => address);
const seqsOf = (entries: readonly Entry[]): number[] => entries.map(({ seq }) => seq);

/** What a store must answer, by looking at everything that was ever committed. */
function model() {
  const all: Entry[] = [];
  const byAddress = (a: Entry, b: Entry): number => (a.address < b.address ? -1 : 1);
  return {
    all,
    cut(seq: number, prefix: string): Entry[] {
      const last = new Map<string, Entry>();
      for (const one of all) if (one.seq <= seq && one.address.startsWith(prefix)) last.set(one.address, one);
      return [...last.values()].filter(({ state }) => state !== null).sort(byAddress);
    },
    history: (address: string, firstSeq: number): Entry[] =>
      all.filter((one) =>
        one.seq >= firstSeq && (address.endsWith("/") ? one.address.startsWith(address) : one.address === address)
      ),
    unsent(): (Said & { from: Address })[] {
      const order = (id: string): number[] => id.split(".").map(Number);
      const after = ([a, b]: number[], [c, d]: number[]): boolean => a! > c! || (a === c && b! > d!);
      let mark = [0, 0];
      for (const { cause } of all) {
        if (/^\d/.test(cause.id) && after(order(cause.id), mark)) mark = order(cause.id);
      }
      return all.flatMap((one) =>
        one.said.filter(({ id, to }) => isInternal(to) && after(order(id), mark))
          .map((message) => ({ ...message, from: one.address }))
      );
    },
  };
}

/** Commits entries `from` to `to`, five at a time. */
async function commitFrom(states: States, from: number, to: number, make: (seq: number) => Entry): Promise<void> {
  for (let seq = from; seq <= to; seq += 5) {
    await states.commit(Array.from({ length: Math.min(5, to - seq + 1) }, (_, index) => make(seq + index)));
  }
}

/** A step of a random life of a store. */
type Step =
  | {
    readonly do: "commit";
    readonly entries: readonly { address: string; gone: boolean; says: number; hears: boolean }[];
  }
  | { readonly do: "prune"; readonly share: number }
  | { readonly do: "reopen" };

const anyAddress = fc.constantFrom("job/a", "task/a/0", "task/a/1", "task/a/10", "task/ab/0", "scheduler", "worker/w1");
const anyStep = (canReopen: boolean): fc.Arbitrary<Step> =>
  fc.oneof(
    {
      weight: 8,
      arbitrary: fc.record({
        do: fc.constant("commit" as const),
        entries: fc.array(
          fc.record({
            address: anyAddress,
            gone: fc.integer({ min: 0, max: 5 }).map((n) => n === 0),
            says: fc.nat(2),
            hears: fc.boolean(),
          }),
          { minLength: 1, maxLength: 8 },
        ),
      }),
    },
    {
      weight: 1,
      arbitrary: fc.record({ do: fc.constant("prune" as const), share: fc.double({ min: 0, max: 1, noNaN: true }) }),
    },
    ...(canReopen ? [{ weight: 1, arbitrary: fc.constant({ do: "reopen" as const }) }] : []),
  );

export interface StoreUnderTest {
  readonly states: States;
  /** The same store, closed and opened again; absent when it does not outlive its process. */
  reopen?(): Promise<States>;
  /** Removes what was made for the store, once it is closed. */
  remove?(): Promise<void>;
}

/** What every implementation of States must do. */
export function statesContract(name: string, make: () => Promise<StoreUnderTest>): void {
  describe(name, () => {
    const made: StoreUnderTest[] = [];
    const fresh = async (): Promise<StoreUnderTest> => {
      const store = await make();
      made.push(store);
      return store;
    };
    const states = async (): Promise<States> => (await fresh()).states;
    afterEach(async () => {
      for (const store of made.splice(0)) {
        await store.states.close();
        await store.remove?.();
      }
    });

    test("a new store is empty", async () => {
      const store = await states();
      expect(await store.tail(isInternal)).toEqual({ lastSeq: 0, lastEpoch: 0, unsent: [] });
      expect(await store.bounds()).toMatchObject({ firstSeq: 1, lastSeq: 0 });
      expect(await store.get("job/a" as Address)).toBeUndefined();
      expect(await collect(store.current())).toEqual([]);
      expect(await collect(store.history("job/a"))).toEqual([]);
    });

    test("get() gives back every field of the newest entry", async () => {
      const store = await states();
      const full = entry(2, "task/a/0", {
        epoch: 7,
        version: 3,
        state: {
          value: { on: "idle" },
          list: [1, "two", null, true, 2.5, -1],
          none: {},
          long: 2 ** 40,
          bytes: Uint8Array.of(1, 2, 255),
        },
        cause: { id: "1.0", from: "job/a" as Address, event: { type: "task.queue", atMs: 12 } },
        said: [said(2, 0, "job/a"), said(2, 1, "member/w1")],
        reason: "it is first",
      });
      await store.commit([entry(1, "task/a/0"), full]);
      expect(await store.get("task/a/0" as Address)).toEqual(full);
      expect(Object.keys((await store.get("task/a/0" as Address))!).sort()).toEqual(Object.keys(full).sort());
    });

    test("what is done to an entry after the commit does not reach the store", async () => {
      const store = await states();
      const state = { value: "queued" };
      await store.commit([entry(1, "job/a", { state })]);
      state.value = "changed";
      const read = await store.get("job/a" as Address);
      expect(read?.state).toEqual({ value: "queued" });
      (read!.state as { value: string }).value = "changed";
      expect((await store.get("job/a" as Address))?.state).toEqual({ value: "queued" });
    });

    test("current() gives the actors under a prefix in byte order and leaves out those that are gone", async () => {
      const store = await states();
      await store.commit([
        entry(1, "task/a/1"),
        entry(2, "task/a/10"),
        entry(3, "job/a"),
        entry(4, "task/b/0"),
        entry(5, "task/B/0"),
        entry(6, "task/a/1", { state: null }),
        entry(7, "task/a/2"),
      ]);
      expect(addressesOf(await collect(store.current()))).toEqual([
        "job/a",
        "task/B/0",
        "task/a/10",
        "task/a/2",
        "task/b/0",
      ]);
      expect(addressesOf(await collect(store.current("task/a/")))).toEqual(["task/a/10", "task/a/2"]);
      expect(await store.get("task/a/1" as Address)).toBeUndefined();
    });

    test("standing() gives the same actors as current(), without what they heard and said", async () => {
      const store = await states();
      await store.commit([
        entry(1, "task/a/1", {
          said: [said(1, 0, "job/a")],
          state: { bytes: Uint8Array.of(1, 2), why: "x".repeat(70) },
        }),
        entry(2, "task/b/1", { cause: { id: "1.0", from: "job/a" as Address, event: { type: "t" } }, reason: "why" }),
        entry(3, "job/a", { state: null }),
      ]);
      const standings = (await collect(store.current())).map(({ cause, said: _, reason: __, ...rest }) => ({
        ...rest,
        causeId: cause.id,
      }));
      expect(standings).toHaveLength(2);
      expect((await collect(store.standing())).flat()).toEqual(standings);
      expect(addressesOf((await collect(store.standing("task/b/"))).flat())).toEqual(["task/b/1"]);
    });

    test("an actor that is gone stays in the history, and may come again", async () => {
      const store = await states();
      await store.commit([entry(1, "job/a"), entry(2, "job/a", { state: null }), entry(3, "job/a")]);
      expect((await collect(store.history("job/a"))).map(({ state }) => state === null)).toEqual([false, true, false]);
      expect((await store.get("job/a" as Address))?.seq).toBe(3);
      expect(await collect(store.cut(2))).toEqual([]);
    });

    test("history() gives one actor's entries oldest first, within its range", async () => {
      const store = await states();
      for (let seq = 1; seq <= 60; seq++) await store.commit([entry(seq, seq % 2 === 0 ? "task/a/1" : "task/a/10")]);
      expect(seqsOf(await collect(store.history("task/a/1")))).toEqual(Array.from({ length: 30 }, (_, i) => 2 * i + 2));
      expect(seqsOf(await collect(store.history("task/a/1", { afterSeq: 10, toSeq: 16 })))).toEqual([12, 14, 16]);
      expect(seqsOf(await collect(store.history("task/a/1", { afterSeq: 11, limit: 2 })))).toEqual([12, 14]);
      expect(await collect(store.history("task/a/1", { limit: 0 }))).toEqual([]);
      expect(await collect(store.history("task/a"))).toEqual([]);
    });

    test("history() of a prefix is in the order of the entries", async () => {
      const store = await states();
      await store.commit([entry(1, "task/b/0"), entry(2, "task/a/1"), entry(3, "task/b/0"), entry(4, "job/a")]);
      await store.commit([entry(5, "task/a/0"), entry(6, "task/b/1")]);
      expect(seqsOf(await collect(store.history("task/")))).toEqual([1, 2, 3, 5, 6]);
      expect(seqsOf(await collect(store.history("task/b/")))).toEqual([1, 3, 6]);
      expect(seqsOf(await collect(store.history("")))).toEqual([1, 2, 3, 4, 5, 6]);
      expect(seqsOf(await collect(store.history("", { afterSeq: 3, limit: 2 })))).toEqual([4, 5]);
      expect(seqsOf(await collect(store.history("task/", { afterSeq: 2, limit: 2 })))).toEqual([3, 5]);
    });

    test("history() and cut() of more than a page of actors leave none out", async () => {
      const store = await states();
      const many = Array.from({ length: 2000 }, (_, i) => entry(i + 1, `task/a/${i % 700}`));
      await store.commit(many);
      expect(await collect(store.cut(2000))).toHaveLength(700);
      expect(await collect(store.cut(350))).toHaveLength(350);
      expect(await collect(store.cut(2000, "task/a/69"))).toHaveLength(11);
      expect(await collect(store.cut(2000, "task/", "task/a/60"))).toHaveLength(
        Array.from({ length: 700 }, (_, i) => `task/a/${i}`).filter((address) => address > "task/a/60").length,
      );
      const places = [0, 1, 350, 699];
      expect(await Promise.all(places.map(async (i) => (await store.get(`task/a/${i}` as Address, 1400))?.seq)))
        .toEqual(places.map((i) => 701 + i));
      expect(seqsOf(await collect(store.history("task/a/")))).toEqual(seqsOf(many));
      expect(await collect(store.current())).toHaveLength(700);
    });

    test("cut() shows every actor as it was just after an entry", async () => {
      const store = await states();
      await store.commit([
        entry(1, "job/a"),
        entry(2, "task/a/0"),
        entry(3, "job/a"),
        entry(4, "task/a/0", { state: null }),
      ]);
      expect(seqsOf(await collect(store.cut(1)))).toEqual([1]);
      expect(seqsOf(await collect(store.cut(2)))).toEqual([1, 2]);
      expect(seqsOf(await collect(store.cut(3)))).toEqual([3, 2]);
      expect(seqsOf(await collect(store.cut(4)))).toEqual([3]);
      expect(seqsOf(await collect(store.cut(3, "task/")))).toEqual([2]);
      expect(seqsOf(await collect(store.cut(3, "", "job/a")))).toEqual([2]);
      const at = async (address: string, seq: number) => (await store.get(address as Address, seq))?.seq;
      expect(await Promise.all([1, 2, 3, 4].map((seq) => at("job/a", seq)))).toEqual([1, 1, 3, 3]);
      expect(await Promise.all([1, 2, 3, 4].map((seq) => at("task/a/0", seq)))).toEqual([undefined, 2, 2, undefined]);
      for (const seq of [0, 5]) await expect(at("job/a", seq)).rejects.toMatchObject({ code: "REQUEST_INVALID" });
    });

    test("cut() outside of the bounds is REQUEST_INVALID and names them", async () => {
      const store = await states();
      await store.commit([entry(1, "job/a"), entry(2, "job/a")]);
      for (const seq of [0, 3, 1.5]) {
        await expect(collect(store.cut(seq))).rejects.toMatchObject({
          code: "REQUEST_INVALID",
          message: expect.stringContaining("1 to 2"),
        });
      }
    });

    test("seqAt() is the newest entry of a time, also in the middle of a commit, before all and after all", async () => {
      const store = await states();
      expect(await store.seqAt(5)).toBe(0);
      const at = (seq: number, atMs: number) => entry(seq, `task/a/${seq % 3}`, { atMs });
      await store.commit([at(1, 10), at(2, 10), at(3, 20)]);
      await store.commit([at(4, 20), at(5, 30)]);
      await store.commit([at(6, 30)]);
      const found = await Promise.all([9, 10, 15, 20, 29, 30, 1e9].map((atMs) => store.seqAt(atMs)));
      expect(found).toEqual([0, 2, 2, 4, 4, 6, 6]);
    });

    test("news() says how far it has come, and of whom the entries after one are", async () => {
      const store = await states();
      expect(await store.news(0)).toEqual({ lastSeq: 0, addresses: [] });
      await store.commit([entry(1, "job/a"), entry(2, "task/a/0")]);
      await store.commit([entry(3, "job/a", { state: null })]);
      expect(await store.news(0)).toEqual({ lastSeq: 3, addresses: ["job/a", "task/a/0", "job/a"] });
      expect(await store.news(2)).toEqual({ lastSeq: 3, addresses: ["job/a"] });
      expect(await store.news(3)).toEqual({ lastSeq: 3, addresses: [] });
      expect(await store.addresses(0, 3)).toEqual(["job/a", "task/a/0", "job/a"]);
      expect(await store.addresses(1, 2)).toEqual(["task/a/0"]);
      expect(await store.addresses(2, 9)).toEqual(["job/a"]);
      expect(await store.addresses(3, 3)).toEqual([]);
    });

    test("commits that overlap become durable in the order of the calls", async () => {
      const store = await states();
      const done: number[] = [];
      await Promise.all(
        Array.from(
          { length: 50 },
          (_, i) => store.commit([entry(2 * i + 1, "job/a"), entry(2 * i + 2, `task/a/${i}`)]).then(() => done.push(i)),
        ),
      );
      expect(done).toEqual(Array.from({ length: 50 }, (_, i) => i));
      expect(await store.bounds()).toMatchObject({ firstSeq: 1, lastSeq: 100 });
      expect(await collect(store.history("job/a"))).toHaveLength(50);
    });

    test("a commit with a gap before it breaks an invariant and leaves the store as it was", async () => {
      const store = await states();
      await store.commit([entry(1, "job/a")]);
      await expect(store.commit([entry(3, "job/a")])).rejects.toThrow("2 must be next");
      await expect(store.commit([entry(2, "job/a"), entry(2, "job/b")])).rejects.toThrow("3 must be next");
      await store.commit([]);
      await store.commit([entry(2, "job/a")]);
      expect(seqsOf(await collect(store.history("job/a")))).toEqual([1, 2]);
    });

    test("an address that is not short printable ASCII is refused", async () => {
      const store = await states();
      for (const address of ["", "job/ä", "job/\n", "j".repeat(256)]) {
        await expect(store.commit([entry(1, address)])).rejects.toMatchObject({ code: "REQUEST_INVALID" });
      }
      await store.commit([entry(1, "j".repeat(255))]);
      expect(seqsOf(await collect(store.current()))).toEqual([1]);
    });

    test("tail() gives what was said to internal addresses after the last message heard", async () => {
      const store = await states();
      await store.commit([
        entry(1, "job/a", { said: [said(1, 0, "task/a/0"), said(1, 1, "member/w1"), said(1, 2, "task/a/1")] }),
        entry(2, "task/a/0", { epoch: 4, cause: { id: "1.0", from: "job/a" as Address, event: {} } }),
        entry(3, "job/b", { epoch: 4, said: [said(3, 0, "scheduler")] }),
      ]);
      expect(await store.tail(isInternal)).toEqual({
        lastSeq: 3,
        lastEpoch: 4,
        unsent: [
          { ...said(1, 2, "task/a/1"), from: "job/a" },
          { ...said(3, 0, "scheduler"), from: "job/b" },
        ],
      });
    });

    test("tail() compares places as numbers", async () => {
      const store = await states();
      const messages = Array.from({ length: 12 }, (_, place) => said(9, place, `task/a/${place}`));
      for (let seq = 1; seq <= 8; seq++) await store.commit([entry(seq, "job/a")]);
      await store.commit([
        entry(9, "job/a", { said: messages }),
        entry(10, "task/a/9", {
          cause: { id: "9.9", from: "job/a" as Address, event: {} },
          said: [said(10, 0, "job/a")],
        }),
      ]);
      expect((await store.tail(isInternal)).unsent.map(({ id }) => id)).toEqual(["9.10", "9.11", "10.0"]);
    });

    test("prune() forgets old history; current states and later cuts stay whole", async () => {
      const store = await states();
      const big = "x".repeat(200);
      await store.commit([entry(1, "worker/idle"), entry(2, "worker/left"), entry(3, "worker/left", { state: null })]);
      await commitFrom(store, 4, 400, (seq) => entry(seq, `task/a/${seq % 5}`, { state: { big } }));
      const before = await store.bounds();
      const after = await store.prune({ beforeMs: 0, bytesMax: before.bytes / 2 });
      expect(after.firstSeq).toBeGreaterThan(100);
      expect(after.bytes).toBeLessThanOrEqual(before.bytes / 2);
      expect(await store.bounds()).toEqual({ ...after, lastSeq: 400 });
      expect((await store.get("worker/idle" as Address))?.seq).toBe(1);
      expect(seqsOf(await collect(store.cut(after.firstSeq)))).toHaveLength(6);
      expect((await collect(store.history("task/a/0")))[0]!.seq).toBeGreaterThanOrEqual(after.firstSeq);
      expect(await collect(store.history("worker/idle"))).toEqual([]);
      await expect(collect(store.cut(after.firstSeq - 1))).rejects.toMatchObject({ code: "REQUEST_INVALID" });
    });

    test("prune() by age leaves what is younger", async () => {
      const store = await states();
      await commitFrom(store, 1, 300, (seq) => entry(seq, "job/a", { state: { big: "x".repeat(200) } }));
      const { firstSeq } = await store.prune({ beforeMs: 1_000 + 200, bytesMax: Infinity });
      expect(firstSeq).toBeGreaterThan(100);
      expect(firstSeq).toBeLessThanOrEqual(200);
      expect(await store.prune({ beforeMs: 0, bytesMax: Infinity })).toMatchObject({ firstSeq });
    });

    test("prune() keeps what may be unsent", async () => {
      const store = await states();
      await store.commit([entry(1, "job/a", { said: [said(1, 0, "task/a/0")] })]);
      await commitFrom(store, 2, 200, (seq) => entry(seq, "job/a", { state: { big: "x".repeat(200) } }));
      expect(await store.prune({ beforeMs: Infinity, bytesMax: 0 })).toMatchObject({ firstSeq: 1 });
      expect((await store.tail(isInternal)).unsent).toHaveLength(1);
    });

    test("commit() after close() is refused", async () => {
      const store = await states();
      await store.close();
      await expect(store.commit([entry(1, "job/a")])).rejects.toMatchObject({ code: "CANCELLED" });
    });

    test("any life of a store answers like a list of all its entries", async () => {
      const canReopen = (await fresh()).reopen !== undefined;
      await fc.assert(
        fc.asyncProperty(fc.array(anyStep(canReopen), { maxLength: 30 }), async (steps) => {
          const store = await make();
          let { states } = store;
          const truth = model();
          let heardUpTo: Said[] = [];
          try {
            await states.tail(isInternal);
            for (const step of steps) {
              if (step.do === "reopen") {
                states = await store.reopen!();
              } else if (step.do === "prune") {
                const { bytes } = await states.bounds();
                await states.prune({ beforeMs: 0, bytesMax: bytes * step.share });
              } else {
                const news = step.entries.map(({ address, gone, says, hears }): Entry => {
                  const seq = truth.all.length + 1;
                  const heard = hears ? heardUpTo.shift() : undefined;
                  const messages = Array.from(
                    { length: says },
                    (_, k) => said(seq, k, k === 0 ? "job/a" : "member/w1"),
                  );
                  heardUpTo = [...heardUpTo, ...messages.filter(({ to }) => isInternal(to))];
                  const one = entry(seq, address, {
                    said: messages,
                    state: gone ? null : { seq, padding: "p".repeat((seq * 37) % 200) },
                    ...(heard === undefined ? {} : { cause: { id: heard.id, from: address as Address, event: {} } }),
                  });
                  truth.all.push(one);
                  return one;
                });
                await states.commit(news);
              }
            }
            const last = truth.all.length;
            const { firstSeq, lastSeq } = await states.bounds();
            expect(lastSeq).toBe(last);
            expect((await states.tail(isInternal)).unsent).toEqual(truth.unsent());
            expect(await collect(states.current())).toEqual(truth.cut(last, ""));
            for (const address of ["job/a", "task/a/1", "task/a/", "task/"]) {
              expect(await collect(states.history(address))).toEqual(truth.history(address, firstSeq));
            }
            for (let seq = firstSeq; seq <= last; seq += 1 + Math.floor(last / 10)) {
              expect(await collect(states.cut(seq))).toEqual(truth.cut(seq, ""));
              expect(await collect(states.cut(seq, "task/a/"))).toEqual(truth.cut(seq, "task/a/"));
              for (const address of ["job/a", "task/a/1"] as Address[]) {
                expect(await states.get(address, seq)).toEqual(
                  truth.cut(seq, "").find((one) => one.address === address),
                );
              }
            }
          } finally {
            await states.close();
            await store.remove?.();
          }
        }),
        { numRuns: canReopen ? 30 : 100 },
      );
    }, 60_000);
  });
}
