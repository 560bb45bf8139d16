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
    /** Follows, and takes each news as it comes. */
    take(watch: readonly string[], after: number) {
      const news: News[] = [];
      let ended: unknown;
      const end = (async () => {
        for await (const one of feed.follow(watch, after, stop.signal)) news.push(one);
      })().then(() => ended = "ended", (error) => ended = error);
      return { news, end, ended: () => ended };
    },
  };
}

describe("the feed", () => {
  test("tells of what is watched, and only when that has changed", async () => {
    const { history, clock, take, save, lastSeq, stop } = rig();
    history.scheduler();
    const job = history.job(1, 2);
    const other = history.job(2, 1);
    await save();
    const { news } = take([`job/${job}`, `task/${job}/`], lastSeq());
    const all = take([""], lastSeq());
    await clock.advance(1_000);
    expect(news).toEqual([]);
    history.place(other, 0, "w1");
    await save();
    await clock.advance(50);
    expect(news).toEqual([]);
    expect(all.news).toEqual([{ last: { seq: lastSeq(), atMs: history.nowMs }, changed: [""] }]);
    history.place(job, 1, "w1");
    await save();
    await clock.advance(50);
    expect(news).toEqual([{ last: { seq: lastSeq(), atMs: history.nowMs }, changed: [`task/${job}/`] }]);
    stop.abort();
    await settle();
    expect(clock.waiting()).toBe(0);
  });

  test("what came before it was asked is told at once", async () => {
    const { history, clock, take, save, lastSeq, stop } = rig();
    history.scheduler();
    await save();
    const { news } = take(["scheduler"], 0);
    await settle();
    expect(news).toEqual([{ last: { seq: lastSeq(), atMs: history.nowMs }, changed: ["scheduler"] }]);
    // And whoever knows of more than there is has looked at another cluster.
    const astray = take(["scheduler", "job/"], 1_000);
    await settle();
    expect(astray.news[0]?.changed).toEqual(["scheduler", "job/"]);
    stop.abort();
    await settle();
    expect(clock.waiting()).toBe(0);
  });

  test("tells at most four times a second, the first at once", async () => {
    const { history, clock, take, save, lastSeq, stop } = rig();
    history.scheduler();
    await save();
    const { news } = take(["job/"], lastSeq());
    await settle();
    for (let step = 0; step < 100; step++) {
      history.job(step, 1);
      await save();
      await clock.advance(10);
      if (step === 5) expect(news).toHaveLength(1);
    }
    await clock.advance(300);
    expect(news.length).toBeGreaterThanOrEqual(4);
    expect(news.length).toBeLessThanOrEqual(6);
    expect(news.at(-1)!.last.seq).toBe(lastSeq());
    stop.abort();
  });

  test("who does not take its news costs nothing, and is told of all at once when it comes back", async () => {
    const { history, clock, feed, save, lastSeq, looks, stop } = rig();
    history.scheduler();
    await save();
    const slow = feed.follow(["job/", "worker/"], lastSeq(), stop.signal)[Symbol.asyncIterator]();
    const first = slow.next();
    await settle();
    history.job(1, 1);
    await save();
    await clock.advance(100);
    expect((await first).value.changed).toEqual(["job/"]);
    const before = looks();
    for (let step = 0; step < 10_000; step++) history.job(step + 2, 1);
    history.worker("w1", 1);
    await save();
    await clock.advance(60_000);
    expect(looks()).toBe(before);
    expect(clock.waiting()).toBe(0);
    const later = await slow.next();
    expect(later.value).toEqual({ last: { seq: lastSeq(), atMs: history.nowMs }, changed: ["job/", "worker/"] });
    stop.abort();
    await slow.return?.();
  });

  test("refuses more than it can look after, and ends them all when it is closed", async () => {
    const { clock, feed, take } = rig();
    const all = Array.from({ length: 200 }, () => take(["job/"], 0));
    await settle();
    const more = take(["job/"], 0);
    await more.end;
    expect(more.ended()).toMatchObject({ code: "LIMIT_EXCEEDED" });
    feed.close();
    await Promise.all(all.map(({ end }) => end));
    expect(all.every(({ ended }) => ended() === "ended")).toBe(true);
    expect(clock.waiting()).toBe(0);
  });

  test("states that cannot be read end it with the reason", async () => {
    const clock = manualClock();
    const states = memoryStates();
    let isBroken = false;
    const feed = createFeed({
      states: () => isBroken ? Promise.reject(new Error("gone")) : Promise.resolve(states),
      clock,
    });
    const next = feed.follow([""], 0, new AbortController().signal)[Symbol.asyncIterator]().next();
    next.catch(() => {});
    await settle();
    isBroken = true;
    await clock.advance(100);
    await expect(next).rejects.toThrow("gone");
    expect(clock.waiting()).toBe(0);
  });
});
