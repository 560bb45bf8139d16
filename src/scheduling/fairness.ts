/**
 * Whose turn it is among classes: how many of the free slots each may have. Pure arithmetic over a few numbers a class.
 *
 * First what classes are owed by their percentages, in proportion to what they lack (entitlement); then, while slots are
 * left and somebody waits, more than that, in proportion to the percentages of those who wait (loans). A loan is repaid by
 * slots that come free: nobody who is over its target is given one while somebody under it waits.
 *
 * Percentages of a pass are whole numbers and products are rounded to 32 bits before they are rounded up, as Scoot does;
 * its tables are tests. What is undefined there is not here: when fewer slots are left than classes want one, each
 * goes to the class that is owed most, so that no remainder is lost and no class is rounded away. Few slots are given out
 * one by one in any case: each class then stays less than one slot from its exact share while all have work.
 */
export interface ClassLoad {
  /** Of all slots; those of all classes add up to 100. */
  readonly percent: number;
  /** Slots that it has before anybody has more than their floor. */
  readonly floor: number;
  readonly running: number;
  readonly waiting: number;
  /** Says who has the slots that percentages leave over: slots that it lacked, times how long. Any unit, the same for all. */
  readonly owed: number;
}

/** Which class comes first: the largest percentage; of equals, the first. */
const byPercent = (classes: readonly ClassLoad[]): readonly number[] =>
  classes.map((_, at) => at).sort((a, b) => classes[b]!.percent - classes[a]!.percent || a - b);

/**
 * What each class should have, not rounded: its percentage of all slots. A class with a floor and the tasks for it has at
 * least that; the others have so much less, in proportion. Floors that add up to more than there is are cut in proportion.
 */
export function sharesOf(slots: number, classes: readonly ClassLoad[]): number[] {
  const exact = classes.map(({ percent }) => slots * percent / 100);
  const floors = classes.map(({ floor, running, waiting }) => Math.min(floor, running + waiting));
  const floored = floors.reduce((sum, floor) => sum + floor, 0);
  if (floored > slots) { for (const at of floors.keys()) floors[at] = floors[at]! * slots / floored; }
  if (floored > 0) raise(exact, floors, slots);
  return exact;
}

/**
 * Whole slots for each class, that add up to all slots: its share of them, rounded down or up. What is left over goes to
 * those with the largest fraction and debt.
 */
export function targetsOf(slots: number, classes: readonly ClassLoad[]): number[] {
  return rounded(sharesOf(slots, classes), slots, classes);
}

function rounded(exact: readonly number[], slots: number, classes: readonly ClassLoad[]): number[] {
  const whole = exact.map((share) => Math.floor(share + 1e-9));
  let left = slots - whole.reduce((sum, share) => sum + share, 0);
  const fraction = (at: number): number => exact[at]! - whole[at]!;
  const inTurn = exact.map((_, at) => at).filter((at) => fraction(at) > 1e-9)
    .sort((a, b) => fraction(b) + classes[b]!.owed - fraction(a) - classes[a]!.owed || a - b);
  for (const at of inTurn) if (left > 0) whole[at] = whole[at]! + 1, left--;
  return whole;
}

/** Lifts shares to their floors, at the cost of those that are over theirs, in proportion to their shares. */
function raise(shares: number[], floors: readonly number[], slots: number): void {
  const isLifted = shares.map(() => false);
  for (let round = 0; round < shares.length; round++) {
    let lifted = false;
    for (const [at, floor] of floors.entries()) {
      if (!isLifted[at] && floor > 0 && shares[at]! < floor) isLifted[at] = lifted = true;
    }
    if (!lifted) return;
    let left = slots;
    let others = 0;
    for (const at of shares.keys()) {
      if (isLifted[at]) left -= floors[at]!;
      else others += shares[at]!;
    }
    for (const at of shares.keys()) {
      shares[at] = isLifted[at] ? floors[at]! : others === 0 ? 0 : shares[at]! * left / others;
    }
  }
}

interface Giving {
  readonly order: readonly number[];
  readonly starts: number[];
  readonly waiting: number[];
}

/** Gives out `slots` by whole percentages, and to nobody more than its `most`; returns how many it gave. */
function giveByPercent(
  { order, starts, waiting }: Giving,
  slots: number,
  percents: readonly number[],
  most?: readonly number[],
): number {
  let given = 0;
  for (const at of order) {
    const part = Math.ceil(Math.fround(Math.fround(slots * percents[at]!) / 100));
    const start = Math.min(waiting[at]!, part, slots - given, most?.[at] ?? Infinity);
    starts[at] = starts[at]! + start;
    waiting[at] = waiting[at]! - start;
    given += start;
  }
  return given;
}

/** Gives out slots one by one, each to the class of which `owed` says most. */
function giveOneByOne({ order, starts, waiting }: Giving, slots: number, owed: (at: number) => number): number {
  let given = 0;
  for (; given < slots; given++) {
    let best = -1;
    let most = -Infinity;
    for (const at of order) {
      if (waiting[at]! === 0) continue;
      const here = owed(at);
      if (here > most) [best, most] = [at, here];
    }
    if (best < 0) break;
    starts[best] = starts[best]! + 1;
    waiting[best] = waiting[best]! - 1;
  }
  return given;
}

/** Where so few are free, each goes to the class that lacks most, which is exact; where more are, by whole percentages. */
const fewSlots = 100;

const sumOf = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0);

/**
 * How many tasks of each class may start now: in sum the free slots, or all that wait. Costs at most some multiple of the square
 * of the number of classes, however many slots there are.
 *
 * @param slots of all workers that are here. @param free of them.
 */
export function allot(slots: number, free: number, classes: readonly ClassLoad[]): number[] {
  const order = byPercent(classes);
  const starts = classes.map(() => 0);
  const waiting = classes.map((one) => one.waiting);
  const giving: Giving = { order, starts, waiting };
  const shares = sharesOf(slots, classes);
  const targets = rounded(shares, slots, classes);
  const has = (at: number): number => classes[at]!.running + starts[at]!;
  let left = Math.min(Math.max(0, free), sumOf(waiting));

  // Floors, which are in the targets, are not made to wait for others' targets.
  for (const at of order) {
    const start = Math.min(left, waiting[at]!, Math.max(0, Math.min(classes[at]!.floor, targets[at]!) - has(at)));
    starts[at] = starts[at]! + start;
    waiting[at] = waiting[at]! - start;
    left -= start;
  }

  for (let round = 0; round < classes.length && left > 0; round++) {
    const lacks = classes.map((_, at) => waiting[at]! > 0 ? Math.max(0, targets[at]! - has(at)) : 0);
    const lack = sumOf(lacks);
    if (lack === 0) break;
    const toGive = Math.min(left, lack);
    if (free <= fewSlots || toGive < lacks.filter((one) => one > 0).length) {
      left -= giveOneByOne(
        giving,
        toGive,
        (at) => lacks[at]! > 0 && has(at) < targets[at]! ? shares[at]! - has(at) : -Infinity,
      );
      continue;
    }
    const percents = lacks.map((one) => Math.floor(one * 100 / lack));
    percents[order[0]!] = 100 - (sumOf(percents) - percents[order[0]!]!);
    left -= giveByPercent(giving, toGive, percents, lacks);
  }

  /** Of tasks that ran before: what this call starts is divided by the percentages alone. */
  const over = (at: number): number => Math.max(0, classes[at]!.running - targets[at]!);
  for (let round = 0; round < classes.length && left > 0; round++) {
    const wanting = classes.reduce((sum, { percent }, at) => waiting[at]! > 0 ? sum + percent : sum, 0);
    if (wanting === 0) break;
    const all = left + sumOf(classes.map((_, at) => over(at)));
    const wants = classes.map(({ percent }, at) =>
      waiting[at]! > 0 ? Math.max(0, Math.floor(percent / wanting * all) - over(at)) : 0
    );
    const want = sumOf(wants);
    if (want === 0) {
      // 0/0 where percentages are made of it: the slots that are left are fewer than the classes that want one.
      left -= giveOneByOne(
        giving,
        Math.min(left, classes.length),
        (at) => classes[at]!.percent / wanting * all - over(at),
      );
      continue;
    }
    left -= giveByPercent(giving, left, wants.map((one) => Math.trunc(one / want * 100)));
  }
  // What rounding left over; then slots that nobody with a percentage wants, in equal parts.
  const loaned = (at: number): number => has(at) - targets[at]!;
  const perPercent = (at: number): number => classes[at]!.percent > 0 ? -loaned(at) / classes[at]!.percent : -Infinity;
  left -= giveOneByOne(giving, left, perPercent);
  while (left > 0) {
    const wanting = order.filter((at) => waiting[at]! > 0);
    if (wanting.length === 0) break;
    const each = Math.floor(left / wanting.length);
    if (each === 0) {
      left -= giveOneByOne(giving, left, (at) => -has(at));
      break;
    }
    for (const at of wanting) {
      const start = Math.min(each, waiting[at]!);
      starts[at] = starts[at]! + start;
      waiting[at] = waiting[at]! - start;
      left -= start;
    }
  }
  return starts;
}

/**
 * How many tasks of each class should start, or stop where it is negative, so that classes have their targets; what
 * those leave over is lent once. As Scoot does, so more may start than wait.
 */
export function rebalanceOf(slots: number, classes: readonly ClassLoad[]): number[] {
  const targets = targetsOf(slots, classes);
  const starts = classes.map(({ running, waiting }, at) =>
    running <= targets[at]! && running + waiting < targets[at]! ? waiting : targets[at]! - running
  );
  const left = slots - sumOf(starts) - sumOf(classes.map(({ running }) => running));
  const wanting = classes.reduce((sum, { percent, waiting }) => waiting > 0 ? sum + percent : sum, 0);
  if (left <= 0 || wanting === 0) return starts;
  const wants = classes.map(({ percent, waiting }) => waiting > 0 ? Math.floor(percent / wanting * left) : 0);
  const want = sumOf(wants);
  if (want === 0) return starts;
  const giving: Giving = { order: byPercent(classes), starts, waiting: classes.map(({ waiting }) => waiting) };
  giveByPercent(giving, left, wants.map((one) => Math.trunc(one / want * 100)));
  return starts;
}

/** In percentage points, between the class most under and the one most over its share, of those that count; 0: fewer than two. */
export function spreadOf(slots: number, classes: readonly ClassLoad[]): number {
  if (slots === 0) return 0;
  const gaps = classes.map(({ percent, running, waiting }) => ({
    gap: percent - Math.floor(running * 100 / slots),
    waiting,
  }))
    .filter(({ gap, waiting }) => gap < 0 || waiting > 0).map(({ gap }) => gap);
  return gaps.length < 2 ? 0 : Math.max(0, ...gaps) - Math.min(0, ...gaps);
}
