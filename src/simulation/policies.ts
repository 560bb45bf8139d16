import type { Settings } from "../protocol/settings.ts";
import { defaultPolicy, type Policy } from "../scheduling/policy.ts";

/** Some tasks ask for what nobody has. */
const common: Policy = { ...defaultPolicy, unmetAfterMs: 4_000, failUnmetAfterMs: 20_000 };

/** How simulated slots are divided: requestors are r0, r1 and r2, and there are some six slots. */
const policies: readonly Policy[] = [
  common,
  {
    ...common,
    classes: [{ name: "a", percent: 50, floor: 0 }, { name: "b", percent: 30, floor: 0 }, {
      name: "c",
      percent: 20,
      floor: 2,
    }],
    requestors: [{ pattern: "r0", class: "a" }, { pattern: "r1", class: "b" }],
  },
  {
    ...common,
    classes: [{ name: "a", percent: 80, floor: 0 }, { name: "b", percent: 20, floor: 1 }],
    requestors: [{ pattern: "r[01]", class: "a" }],
    throttles: [{ pattern: "r1", running: 1 }],
    rebalance: { minimumMs: 200, threshold: 20 },
  },
];

export const simulatedPolicy = (seed: number): Policy => policies[seed % policies.length]!;

/** What an operator of the simulation sets. */
export const simulatedSettings = (seed: number): Settings =>
  ({
    policy: simulatedPolicy(seed),
    limits: { jobsPerRequestor: 10_000, requestors: 10_000, tasksPerJob: 20_000 },
  }) as Settings;
