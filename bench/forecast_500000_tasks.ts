import process from "node:process";
import { seededRandom } from "../src/runtime/random.ts";
import { forecast } from "../src/scheduling/forecast.ts";
import { defaultPolicy } from "../src/scheduling/policy.ts";
import { syntheticTrace } from "../src/scheduling/synthetic.ts";
import { report } from "./report.ts";

/** How long is a day of 1,000 workers and 500,000 tasks forecast? */
const random = seededRandom(1);
const policy = {
  ...defaultPolicy,
  classes: [{ name: "ci", percent: 60, floor: 0 }, { name: "developers", percent: 40, floor: 0 }],
  requestors: [{ pattern: "ci.*", class: "ci" }],
};
const requestors = Array.from(
  { length: 50 },
  (_, n) => ({ name: n < 5 ? `ci${n}` : `dev${n}`, part: n < 5 ? 10 : 1, rank: 2 }),
);
const trace = [
  ...syntheticTrace(
    { tasks: 500_000, hours: 24, durationMs: 90_000, requestors },
    () => random.integer(2 ** 30) / 2 ** 30,
  ),
];
const startedAt = performance.now();
forecast(trace, { workers: 1_000, slots: 1 }, policy);
const seconds = (performance.now() - startedAt) / 1_000;
report([{
  name: "24 h of 1,000 workers and 500,000 tasks, forecast in",
  value: Number(seconds.toFixed(1)),
  unit: "s",
  target: { atMost: 60 },
}], process.argv);
