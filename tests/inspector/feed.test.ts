import { describe, expect, test } from "vitest";
import { createFeed } from "../../src/inspector/feed.ts";
import type { News } from "../../src/inspector/routes.ts";
import { memoryStates } from "../../src/snapshots/states/memory.ts";
import type { States } from "../../src/snapshots/states/states.ts";
import { manualClock, settle } from "../transport/manual_clock.ts";
import { recording } from "./recorded.ts";

/** A store that is written step by step, with a feed over it. */
function rig() {
  const history = recording();
  const states = memoryStates();
  const clock = manualClock();
  let written = 0;
  let looks = 0;
  const counted: States = {
    ...states,
    news(afterSeq) {
      looks++;
      return states.news(afterSeq);
    },
  };
  const feed = createFeed({ states: () => Promise.resolve(counted), clock });
  const stop = new AbortController();
  return {
    history,
    clock,
    feed,
    stop,
    looks: () => looks,
    lastSeq: () => history.entries.length,
    async save() {
      await states.commit(history.entries.slice(written));
      written = history.entries.length;
    },
    /** Asks once. */
    ask(watch: readonly string[], after: number) {
      const asked: { news?: News; error?: unknown } = {};
      const end = feed.news(watch, after, stop.signal).then(
        (news) => void (asked.news = news),
        (error) => void (asked.error = error),
      );
      return Object.assign(asked, { end });
    },
  };
}

describe("the feed", () => {
  test("answers when what is watched has changed, and not before", async () => {
    const { history, clock, ask, save, lastSeq } = rig();
    history.scheduler();
    const job = history.job(1, 2);
    const other = history.job(2, 1);
    await save();
    const one = ask([`job/${job}`, `task/${job}/`], lastSeq());
    const all = ask([""], lastSeq());
    await clock.advance(1_000);
    history.place(other, 0, "w1");
    await save();
    await clock.advance(50);
    expect(one.news).toBeUndefined();
    expect(all.news).toEqual({ last: { seq: lastSeq(), atMs: history.nowMs }, changed: [""] });
    history.place(job, 1, "w1");
    await save();
    await clock.advance(50);
    expect(one.news).toEqual({ last: { seq: lastSeq(), atMs: history.nowMs }, changed: [`task/${job}/`] });
    expect(clock.waiting()).toBe(0);
  });

  test("what came before it was asked is told at once", async () => {
    const { history, clock, ask, save, lastSeq } = rig();
    history.scheduler();
    await save();
    const known = ask(["scheduler"], 0);
    // And whoever knows of more than there is has looked at another cluster.
    const astray = ask(["scheduler", "job/"], 1_000);
    await settle();
    expect(known.news).toEqual({ last: { seq: lastSeq(), atMs: history.nowMs }, changed: ["scheduler"] });
    expect(astray.news?.changed).toEqual(["scheduler", "job/"]);
    expect(clock.waiting()).toBe(0);
  });

  test("of very much at once it is not looked whose it is", async () => {
    const { history, clock, ask, save, lastSeq } = rig();
    history.scheduler();
    await save();
    const asked = ask(["job/", "worker/"], lastSeq());
    await settle();
    for (let step = 0; step < 3_000; step++) history.job(step, 1);
    await save();
    await clock.advance(50);
    expect(asked.news?.changed).toEqual(["job/", "worker/"]);
  });

  test("who does not ask costs nothing; who has asked and hears nothing is answered after a while", async () => {
    const { history, clock, ask, save, lastSeq, looks } = rig();
    history.scheduler();
    await save();
    const first = ask(["job/"], lastSeq());
    await settle();
    await clock.advance(24_000);
    expect(first.news).toBeUndefined();
    await clock.advance(2_000);
    expect(first.news).toEqual({ last: { seq: lastSeq(), atMs: history.nowMs }, changed: [] });
    const before = looks();
    for (let step = 0; step < 100; step++) history.job(step, 1);
    await save();
    await clock.advance(60_000);
    expect(looks()).toBe(before);
    expect(clock.waiting()).toBe(0);
  });

  test("who goes away is forgotten", async () => {
    const { history, clock, ask, save, lastSeq, stop } = rig();
    history.scheduler();
    await save();
    const asked = ask(["job/"], lastSeq());
    await settle();
    expect(clock.waiting()).toBe(1);
    stop.abort();
    await asked.end;
    expect(asked.news?.changed).toEqual([]);
    expect(clock.waiting()).toBe(0);
  });

  test("refuses more than it can look after, and answers all when it is closed", async () => {
    const { history, clock, feed, ask, save, lastSeq } = rig();
    history.scheduler();
    await save();
    const all = Array.from({ length: 200 }, () => ask(["job/"], lastSeq()));
    await settle();
    const more = ask(["job/"], lastSeq());
    await more.end;
    expect(more.error).toMatchObject({ code: "LIMIT_EXCEEDED" });
    feed.close();
    await Promise.all(all.map(({ end }) => end));
    expect(all.every(({ news }) => news?.changed.length === 0)).toBe(true);
    expect(clock.waiting()).toBe(0);
  });

  test("states that cannot be read are told", async () => {
    const clock = manualClock();
    const states = memoryStates();
    let isBroken = false;
    const feed = createFeed({
      states: () => isBroken ? Promise.reject(new Error("gone")) : Promise.resolve(states),
      clock,
    });
    const next = feed.news([""], 0, new AbortController().signal);
    next.catch(() => {});
    await settle();
    isBroken = true;
    await clock.advance(100);
    await expect(next).rejects.toThrow("gone");
    expect(clock.waiting()).toBe(0);
  });
});
