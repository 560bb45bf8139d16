import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { News } from "../../../src/inspector/routes.ts";

/** What a browser has, as far as the page's feed needs it. */
beforeEach(() => {
  const kept = new Map([["scoot-actors.token", "secret"]]);
  vi.stubGlobal("sessionStorage", {
    getItem: (key: string) => kept.get(key) ?? null,
    setItem: (key: string, value: string) => void kept.set(key, value),
  });
  vi.stubGlobal(
    "BroadcastChannel",
    class {
      postMessage(): void {}
      addEventListener(): void {}
    },
  );
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

const newsOf = (seq: number, ...changed: string[]): News => ({ last: { seq, atMs: seq }, changed });

/** A cluster that answers each question as it is told, and then never. */
function cluster(...answers: (unknown | Error)[]) {
  const asked: string[] = [];
  vi.stubGlobal("fetch", (path: string, { signal }: { readonly signal?: AbortSignal } = {}) => {
    asked.push(path);
    const answer = answers.shift();
    if (answer instanceof Error) return Promise.reject(answer);
    if (answer === undefined) {
      return new Promise((_, reject) => signal?.addEventListener("abort", () => reject(new Error("aborted"))));
    }
    const { status = 200, ...body } = answer as { readonly status?: number };
    return Promise.resolve(new Response(JSON.stringify(body), { status }));
  });
  return asked;
}

async function followed(after: number, watch: readonly string[] = ["job/a", "task/a/"]) {
  const { follow } = await import("../../../src/inspector/web/feed.ts");
  const stop = new AbortController();
  const told: string[] = [];
  const end = follow({
    watch,
    after,
    signal: stop.signal,
    onNews: ({ last, changed }) => void told.push(`${last.seq} ${changed.join(" ")}`),
    onConnected: (isConnected) => void told.push(isConnected ? "there" : "away"),
  }).catch((error) => void told.push(`refused: ${error.message}`));
  return { told, end, stop };
}

test("asks for what came after what it was told of, and rests between", async () => {
  const asked = cluster(newsOf(7, "job/a"), newsOf(7), newsOf(9, "task/a/"));
  const { told, end, stop } = await followed(5);
  await vi.advanceTimersByTimeAsync(90);
  expect(asked).toEqual(["/v1/inspect/feed?watch=job%2Fa&watch=task%2Fa%2F&after=5"]);
  await vi.advanceTimersByTimeAsync(500);
  expect(asked.slice(1).map((path) => path.split("after=")[1])).toEqual(["7", "7", "9"]);
  expect(told).toEqual(["there", "7 job/a", "9 task/a/"]);
  stop.abort();
  await end;
});

test("what is followed for days leaves nothing behind for each of its news", async () => {
  let seq = 5;
  const news = Array.from({ length: 20 }, () => newsOf(++seq, "job/a"));
  cluster(...news);
  const held = new Set<unknown>();
  const { addEventListener, removeEventListener } = AbortSignal.prototype;
  vi.spyOn(AbortSignal.prototype, "addEventListener").mockImplementation(function (this: AbortSignal, ...given) {
    held.add(given[1]);
    addEventListener.apply(this, given as Parameters<typeof addEventListener>);
  });
  vi.spyOn(AbortSignal.prototype, "removeEventListener").mockImplementation(function (this: AbortSignal, ...given) {
    held.delete(given[1]);
    removeEventListener.apply(this, given as Parameters<typeof removeEventListener>);
  });
  const { told, end, stop } = await followed(5);
  await vi.advanceTimersByTimeAsync(60_000);
  vi.restoreAllMocks();
  expect(told).toHaveLength(21);
  expect(held.size).toBe(1); // the question that is open
  stop.abort();
  await end;
});

test("everything is watched by the empty beginning", async () => {
  const asked = cluster();
  const { end, stop } = await followed(1, [""]);
  await vi.advanceTimersByTimeAsync(1);
  expect(asked).toEqual(["/v1/inspect/feed?watch=&after=1"]);
  stop.abort();
  await end;
});

test("says that the cluster is away, and that it is there again before there are news", async () => {
  const gone = new Error("connection refused");
  const asked = cluster(gone, gone, { first: {}, last: {} }, newsOf(8, "job/a"));
  const { told, end, stop } = await followed(5);
  await vi.advanceTimersByTimeAsync(3_000);
  expect(told).toEqual(["there", "away", "there", "8 job/a"]);
  expect(asked[2]).toBe("/v1/inspect/bounds");
  stop.abort();
  await end;
});

test("ends when the cluster will not have it, and goes on when it only cannot now", async () => {
  cluster(
    { status: 429, code: "LIMIT_EXCEEDED", message: "too many" },
    { first: {}, last: {} },
    { status: 401, code: "TOKEN_INVALID", message: "another token" },
  );
  const { told, end } = await followed(5);
  await vi.advanceTimersByTimeAsync(3_000);
  await end;
  expect(told).toEqual(["there", "away", "there", "refused: another token"]);
});
