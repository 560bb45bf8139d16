import type { Hono } from "hono";
import * as v from "valibot";
import { Fault } from "../domain/fault.ts";
import { parse, whole } from "../protocol/schema.ts";
import type { Collector } from "../snapshots/collect.ts";
import type { HttpCalls } from "./http_calls.ts";

/** What the store takes, and what would go: only where this gateway keeps blobs on its own disk. */
export function storeRoutes<Env extends object>(app: Hono<Env>, collector: Collector | undefined): void {
  const needed = (): Collector => {
    if (collector !== undefined) return collector;
    throw new Fault("ROUTE_UNKNOWN", "Cannot tell what is stored as this cluster keeps it in memory");
  };
  app.get("/v1/store", (c) => c.json(needed().df()));
  app.post("/v1/store/collect", async (c) => {
    const given = c.req.query("dryRun");
    const isDryRun = ["1", "true", ""].includes(given ?? "0");
    // What is removed by mistake does not come back.
    if (!isDryRun && given !== undefined && !["0", "false"].includes(given)) {
      throw new Fault(
        "REQUEST_INVALID",
        `Cannot read dryRun as it must be 0 or 1: current value is "${given.slice(0, 99)}"`,
      );
    }
    return c.json(await needed().collect({ dryRun: isDryRun }));
  });
}

const taken = { count: whole(0), bytes: whole(0) };
const usage = v.looseObject({
  /** The budget, and what of it holds when the disk has not that much left. */
  maxBytes: whole(0),
  limitBytes: whole(0),
  bytes: whole(0),
  blobs: v.looseObject(taken),
  actions: v.looseObject({ entries: whole(0), bytes: whole(0) }),
  statesBytes: whole(0),
  freeBytes: whole(0),
  /** What was put, asked for or answered stays at least so long. */
  guaranteedAgeMs: whole(0),
  isFull: v.boolean(),
});
const collected = v.looseObject({
  isDryRun: v.boolean(),
  before: usage,
  after: usage,
  goes: v.looseObject({ ...taken, oldestUseAtMs: v.exactOptional(whole(0)), newestUseAtMs: v.exactOptional(whole(0)) }),
  results: whole(0),
  orphans: v.looseObject(taken),
  stays: v.array(v.looseObject({ ...taken, why: v.string() })),
  unreadTrees: whole(0),
  tookMs: v.number(),
});

/** What the cluster's store takes, and its collector. */
export interface Store {
  usage(): Promise<v.InferOutput<typeof usage>>;
  /** Brings it within its budget now; `dryRun` says what would go and why the rest stays, and removes nothing. */
  collect(options?: { readonly dryRun?: boolean }): Promise<v.InferOutput<typeof collected>>;
}

export const httpStore = (calls: HttpCalls): Store => ({
  usage: async () => parse(usage, "what is stored", await calls.json({ method: "GET", path: "/v1/store" })),
  collect: async ({ dryRun = false } = {}) =>
    parse(
      collected,
      "what was collected",
      await calls.json({ method: "POST", path: `/v1/store/collect?dryRun=${dryRun ? 1 : 0}` }),
    ),
});
