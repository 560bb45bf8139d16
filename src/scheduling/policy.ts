import { Fault } from "../domain/fault.ts";
import { compilePattern } from "./requestor_pattern.ts";

/**
 * How the slots are divided, as plain data that is saved, sent and shown as it is.
 *
 * A class is a part of the requestors with a percentage of all slots. Who asks for less lends the rest to those who want
 * more, and has it back as their tasks end.
 */
export interface Policy {
  /** In any order; at least one. Their percentages add up to 100. */
  readonly classes: readonly ClassPolicy[];
  /** The first pattern that matches the whole name says the class of a requestor; none: the last class of `classes`. */
  readonly requestors: readonly { readonly pattern: string; readonly class: string }[];
  /**
   * A task that is the next of its requestor counts as one rank lower for each of these that it has waited as such, in
   * ms, without end. 0: never, and low ranks may starve.
   */
  readonly ageingMs: number;
  /**
   * A task for which slots are free, but not enough memory, processor or counters at once, has them kept for it once it
   * has waited so long, in ms. 0: never, and big tasks may starve behind small ones.
   */
  readonly reserveAfterMs: number;
  /** Licences and devices of the cluster: how many there are of each. */
  readonly counters: Readonly<Record<string, number>>;
  /**
   * The first pattern that matches the whole name says how many tasks of a requestor may run at once, each requestor by
   * itself; none: as many as there is room for.
   */
  readonly throttles: readonly { readonly pattern: string; readonly running: number }[];
  /** A task that no worker that is here could run, were it empty, is told so after this time, in ms. */
  readonly unmetAfterMs: number;
  /** And fails after this time, in ms. Absent: never, as such a worker may come. */
  readonly failUnmetAfterMs?: number;
  /** Put running tasks back when classes are too far from their shares. Absent: never. */
  readonly rebalance?: Rebalance;
}

export interface ClassPolicy {
  readonly name: string;
  /** Of all slots. 0: only what nobody else wants. */
  readonly percent: number;
  /**
   * Slots that it has before anybody has more than their floor, as far as it asks for them; 0: none. What it takes beyond its
   * percentage is missing first from loans, then from the others' shares, in proportion.
   */
  readonly floor: number;
}

export interface Rebalance {
  /** The spread must have been over the threshold for so long, without a break. */
  readonly minimumMs: number;
  /** In percentage points: between the class that is most under its share and the one that is most over it. */
  readonly threshold: number;
}

export const defaultPolicy: Policy = {
  classes: [{ name: "default", percent: 100, floor: 0 }],
  requestors: [],
  ageingMs: 900_000,
  reserveAfterMs: 60_000,
  counters: {},
  throttles: [],
  unmetAfterMs: 60_000,
};

export const classesMax = 64;
export const patternsMax = 200;
export const countersMax = 200;
const nameMax = 100;
const numberMax = 1e12;

/**
 * The policy, when it is one.
 *
 * @throws {Fault} `REQUEST_INVALID` that names the limit and the value. The policy in force is to stay as it is then.
 */
export function checkPolicy(policy: Policy): Policy {
  const refuse = (what: string, limit: string, value: unknown): never => {
    throw new Fault(
      "REQUEST_INVALID",
      `Cannot take this policy as ${what} must be ${limit}: current value is ${value}`,
    );
  };
  const within = (what: string, value: number, max: number): void => {
    if (!Number.isFinite(value) || value < 0 || value > max) refuse(what, `a number from 0 to ${max}`, value);
  };
  const whole = (what: string, value: number): void => {
    if (!Number.isSafeInteger(value) || value < 0) refuse(what, "a whole number, and not negative", value);
  };
  const named = (what: string, value: string): void => {
    if (value.length === 0 || value.length > nameMax) refuse(`the length of ${what}`, `1 to ${nameMax}`, value.length);
  };

  const { classes, requestors, counters, throttles, rebalance } = policy;
  if (classes.length < 1 || classes.length > classesMax) {
    refuse("the number of classes", `1 to ${classesMax}`, classes.length);
  }
  const names = new Set<string>();
  let sum = 0;
  for (const { name, percent, floor } of classes) {
    named("a class's name", name);
    if (names.has(name)) refuse("each class's name", "its own", name);
    names.add(name);
    within(`the percentage of class ${name}`, percent, 100);
    whole(`the floor of class ${name}`, floor);
    sum += percent;
  }
  if (Math.abs(sum - 100) > 1e-6) refuse("the sum of the classes' percentages", "100", Number(sum.toFixed(6)));
  if (requestors.length > patternsMax) {
    refuse("the number of requestor patterns", `at most ${patternsMax}`, requestors.length);
  }
  for (const { pattern, class: name } of requestors) {
    compilePattern(pattern);
    if (!names.has(name)) {
      refuse(`the class of pattern ${JSON.stringify(pattern)}`, `one of ${[...names].join(", ")}`, name);
    }
  }
  if (throttles.length > patternsMax) refuse("the number of throttles", `at most ${patternsMax}`, throttles.length);
  for (const { pattern, running } of throttles) {
    compilePattern(pattern);
    whole(`what requestors of pattern ${JSON.stringify(pattern)} may run at once`, running);
  }
  within("unmetAfterMs", policy.unmetAfterMs, numberMax);
  if (policy.failUnmetAfterMs !== undefined) within("failUnmetAfterMs", policy.failUnmetAfterMs, numberMax);
  within("ageingMs", policy.ageingMs, numberMax);
  within("reserveAfterMs", policy.reserveAfterMs, numberMax);
  const counterNames = Object.keys(counters);
  if (counterNames.length > countersMax) {
    refuse("the number of counters", `at most ${countersMax}`, counterNames.length);
  }
  for (const name of counterNames) {
    named("a counter's name", name);
    whole(`the capacity of counter ${name}`, counters[name]!);
  }
  if (rebalance !== undefined) {
    within("rebalance.minimumMs", rebalance.minimumMs, numberMax);
    within("rebalance.threshold", rebalance.threshold, 200);
  }
  return policy;
}

/** Which class a requestor is of, as its place in the policy's `classes`. Patterns are compiled once, names looked up once. */
export const classifier = ({ classes, requestors }: Policy): (requestor: string) => number =>
  firstMatch(
    requestors.map((rule) => [rule.pattern, classes.findIndex(({ name }) => name === rule.class)]),
    classes.length - 1,
  );

/** How many tasks a requestor may run at once; Infinity: as many as there is room for. */
export const throttler = ({ throttles }: Policy): (requestor: string) => number =>
  firstMatch(throttles.map(({ pattern, running }) => [pattern, running]), Infinity);

function firstMatch(
  rules: readonly (readonly [pattern: string, value: number])[],
  otherwise: number,
): (requestor: string) => number {
  if (rules.length === 0) return () => otherwise;
  const compiled = rules.map(([pattern, value]) => ({ pattern: compilePattern(pattern), value }));
  const known = new Map<string, number>();
  return (requestor) => {
    const before = known.get(requestor);
    if (before !== undefined) return before;
    const found = compiled.find(({ pattern }) => pattern.matches(requestor))?.value ?? otherwise;
    if (known.size >= 100_000) known.clear();
    known.set(requestor, found);
    return found;
  };
}
