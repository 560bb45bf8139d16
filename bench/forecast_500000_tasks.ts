import process from "node:process";
import { seededRandom } from "../src/runtime/random.ts";
import { forecast } from "../src/scheduling/forecast.ts";
import { defaultPolicy } from "../src/scheduling/policy.ts";
import { syntheticTrace } from "../src/scheduling/synthetic.ts";
import { report } from "./report.ts";

/**
 * How long is a day of 1,000 workers and 500,000 tasks forecast? And how far is a class off its percentage of the slot
 * time, at the worst, in a minute in which all classes have work: 100 equal slots, tasks of at most 5 s?
 */
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

const percents = [47, 31.5, 15.5, 6];
const four = {
  ...defaultPolicy,
  classes: percents.map((percent, at) => ({ name: `c${at}`, percent, floor: 0 })),
  requestors: percents.map((_, at) => ({ pattern: `c${at}`, class: `c${at}` })),
};
const minutes = 30;
const short = percents.flatMap((percent, at) =>
  Array.from({ length: Math.ceil(percent * minutes * 60 / 2.5) }, () => ({
    atMs: 0,
    requestor: `c${at}`,
    rank: 2,
    durationMs: 1 + random.integer(5_000),
  }))
);
const { unfairPoints } = forecast(short, { workers: 100, slots: 1 }, four);

report([
  {
    name: "24 h of 1,000 workers and 500,000 tasks, forecast in",
    value: Number(seconds.toFixed(1)),
    unit: "s",
    target: { atMost: 60 },
  },
  {
    name: `a class off its percentage, at the worst of ${unfairPoints!.minutes} minutes`,
    value: unfairPoints!.worst,
    unit: "points",
    target: { atMost: 2 },
  },
  {
    name: "… on average",
    value: unfairPoints!.mean,
    unit: "points",
    target: { atMost: 2 },
  },
], process.argv);
