import { Hono } from "hono";
import { expect, test } from "vitest";
import { storeRoutes } from "../../src/api/http_store.ts";
import type { Fault } from "../../src/domain/fault.ts";
import type { Collector } from "../../src/snapshots/collect.ts";

/** What was asked of the collector, and the codes that were answered. */
async function collect(query: string): Promise<{ readonly asked: readonly unknown[]; readonly answer: string }> {
  const asked: unknown[] = [];
  const collector = {
    collect(options?: { readonly dryRun?: boolean }) {
      asked.push(options?.dryRun);
      return Promise.resolve({});
    },
  } as unknown as Collector;
  const app = new Hono();
  app.onError((thrown, c) => c.text((thrown as Fault).code, 400));
  storeRoutes(app, collector);
  const response = await app.request(`/v1/store/collect${query}`, { method: "POST" });
  return { asked, answer: response.status === 200 ? "done" : await response.text() };
}

test.each([["", false], ["?dryRun=0", false], ["?dryRun=false", false], ["?dryRun=1", true], ["?dryRun", true]])(
  "POST /v1/store/collect%s",
  async (query, isDryRun) => {
    expect(await collect(query)).toEqual({ asked: [isDryRun], answer: "done" });
  },
);

test.each(["?dryRun=yes", "?dryRun=TRUE", "?dryRun=2"])(
  "%s removes nothing, as it may mean a dry run",
  async (query) => {
    expect(await collect(query)).toEqual({ asked: [], answer: "REQUEST_INVALID" });
  },
);
