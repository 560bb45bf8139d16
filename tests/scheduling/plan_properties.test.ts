import * as fc from "fast-check";
import { expect, test } from "vitest";
import { jobId, type TaskId, taskId, type WorkerId, workerId } from "../../src/domain/ids.ts";
import { type PlacingWorker, type QueuedTask, type SchedulingView, schedulingView } from "../../src/scheduling/plan.ts";
import { checkPolicy, classifier, defaultPolicy, type Policy, throttler } from "../../src/scheduling/policy.ts";
import { casesOf } from "./cases.ts";

/** 200 cases of each, or as many as the environment says. */
const cases = casesOf("SCHEDULING", 200);

const job = jobId("j0123456789-000000");
const task = (index: number, changes: Partial<QueuedTask> = {}): QueuedTask => ({
  taskId: taskId(job, index),
  requestor: "ada",
  rank: 2,
  platform: {},
  input: `input ${index}`,
  again: false,
  queuedAtMs: 0,
  ...changes,
});
const policyOf = (changes: Partial<Policy>): Policy => checkPolicy({ ...defaultPolicy, ...changes });

// ---- against a model that looks at everything anew each time -----------------------------------------------------------

interface Queued extends QueuedTask {
  readonly order: number;
}
interface Model {
  policy: Policy;
  readonly workers: Map<WorkerId, PlacingWorker>;
  readonly last: Map<WorkerId, { readonly input: string; readonly basis: string | undefined }>;
  queue: Queued[];
  readonly placed: Map<TaskId, { readonly workerId: WorkerId; readonly task: Queued }>;
  /** By requestor and rank, while the requestor has tasks in the queue: when it was last given a slot. */
  readonly served: Map<string, Map<number, number>>;
}

const classOf = (model: Model, requestor: string): number => classifier(model.policy)(requestor);
const onWorker = (model: Model, id: WorkerId): readonly Queued[] =>
  [...model.placed.values()].filter((one) => one.workerId === id).map((one) => one.task);
const running = (model: Model, isOne: (task: Queued) => boolean): number =>
  [...model.placed.values()].filter((one) => isOne(one.task)).length;
const sum = <T>(all: readonly T[], of: (one: T) => number): number => all.reduce((total, one) => total + of(one), 0);

const hasCounters = (model: Model, { needs }: Queued): boolean =>
  Object.entries(needs?.counters ?? {}).every(([name, amount]) =>
    amount === 0 ||
    amount <= (model.policy.counters[name] ?? 0) -
        sum([...model.placed.values()], (one) => one.task.needs?.counters?.[name] ?? 0)
  );
const isMet = (worker: PlacingWorker, { platform }: Queued): boolean =>
  Object.entries(platform).every(([name, value]) => worker.platform[name] === value);
const hasRoom = (worker: PlacingWorker, { needs }: Queued, taken: readonly Queued[]): boolean =>
  taken.length < worker.slots &&
  (needs?.cpuMillis ?? 0) <=
    Math.max(0, (worker.cpuMillis ?? Infinity) - sum(taken, (one) => one.needs?.cpuMillis ?? 0)) &&
  (needs?.memoryBytes ?? 0) <=
    Math.max(0, (worker.memoryBytes ?? Infinity) - sum(taken, (one) => one.needs?.memoryBytes ?? 0));
const isThrottled = (model: Model, { requestor }: Queued): boolean =>
  running(model, (other) => other.requestor === requestor) >= throttler(model.policy)(requestor);
/** Workers that could take it now. */
const able = (model: Model, one: Queued): readonly PlacingWorker[] =>
  hasCounters(model, one) && !isThrottled(model, one)
    ? [...model.workers.values()].filter((worker) =>
      isMet(worker, one) && hasRoom(worker, one, onWorker(model, worker.workerId))
    )
    : [];

const groupOf = (one: Queued): string =>
  JSON.stringify([one.requestor, one.rank, Object.entries(one.platform).sort(), one.needs ?? {}]);
/** Of each group its first: the one that was put back, then the one that came first. */
const headsOf = (model: Model): readonly Queued[] => {
  const heads = new Map<string, Queued>();
  for (const one of model.queue) {
    const head = heads.get(groupOf(one));
    if (head === undefined || (one.again && !head.again)) heads.set(groupOf(one), one);
  }
  return [...heads.values()];
};
/** By the words of queue.ts: what comes first is least. */
const turnOf = (model: Model, one: Queued): readonly number[] => {
  const behind = one.again
    ? model.queue.find((other) => !other.again && groupOf(other) === groupOf(one))?.queuedAtMs ?? Infinity
    : Infinity;
  const sinceMs = Math.max(
    Math.min(one.queuedAtMs, behind),
    model.served.get(one.requestor)?.get(one.rank) ?? -Infinity,
  );
  const { ageingMs } = model.policy;
  return [
    ageingMs === 0 ? 0 : one.rank + Math.floor(sinceMs / ageingMs),
    one.rank,
    running(model, ({ requestor }) => requestor === one.requestor),
    one.again ? 0 : 1,
    one.order,
  ];
};
const compare = (a: readonly number[], b: readonly number[]): number => {
  for (const [at, value] of a.entries()) if (value !== b[at]!) return value - b[at]!;
  return 0;
};

/** What may be decided: the first of one class that has room, on one of those workers. Empty: nothing. */
function allowed(model: Model): readonly { readonly taskId: TaskId; readonly workers: readonly WorkerId[] }[] {
  const firsts = new Map<number, Queued>();
  for (const head of headsOf(model)) {
    if (able(model, head).length === 0) continue;
    const at = classOf(model, head.requestor);
    const first = firsts.get(at);
    if (first === undefined || compare(turnOf(model, head), turnOf(model, first)) < 0) firsts.set(at, head);
  }
  const slots = sum([...model.workers.values()], (worker) => worker.slots);
  const lacks = (at: number): number =>
    slots * model.policy.classes[at]!.percent / 100 -
    running(model, ({ requestor }) => classOf(model, requestor) === at);
  const isAnyUnder = [...firsts.keys()].some((at) => lacks(at) >= 1);
  return [...firsts].filter(([at]) => !isAnyUnder || lacks(at) > 0).map(([, first]) => {
    const those = able(model, first);
    const fewest = Math.min(...those.map(({ platform }) => Object.keys(platform).length));
    const plain = those.filter(({ platform }) => Object.keys(platform).length === fewest);
    const sameInput = plain.filter((one) => model.last.get(one.workerId)?.input === first.input);
    const basis = first.basis && `${first.requestor} ${first.basis}`;
    const sameBasis = basis === undefined ? [] : plain.filter((one) => model.last.get(one.workerId)?.basis === basis);
    const free = (one: PlacingWorker): number => one.slots - onWorker(model, one.workerId).length;
    const most = Math.max(...plain.map(free));
    const chosen = sameInput.length > 0
      ? sameInput
      : sameBasis.length > 0
      ? sameBasis
      : first.needs?.cpuMillis === undefined && first.needs?.memoryBytes === undefined
      ? plain.filter((one) => free(one) === most)
      : plain;
    return { taskId: first.taskId, workers: chosen.map((one) => one.workerId) };
  });
}

type Move =
  | { readonly type: "enqueue"; readonly task: Partial<QueuedTask> }
  | { readonly type: "place" }
  | { readonly type: "pass"; readonly ms: number }
  | { readonly type: "finish" | "putBack" | "leave"; readonly which: number }
  | { readonly type: "worker"; readonly worker: PlacingWorker }
  | { readonly type: "away"; readonly workerId: WorkerId }
  | { readonly type: "policy"; readonly policy: Policy };

const policies = [
  policyOf({ ageingMs: 100, reserveAfterMs: 0, counters: { licence: 2 } }),
  policyOf({
    classes: [
      { name: "a", percent: 60, floor: 0 },
      { name: "b", percent: 30, floor: 0 },
      { name: "c", percent: 10, floor: 0 },
    ],
    requestors: [{ pattern: "a.*", class: "a" }, { pattern: "b.*", class: "b" }],
    ageingMs: 250,
    reserveAfterMs: 0,
    counters: { licence: 1 },
    throttles: [{ pattern: "ada", running: 1 }, { pattern: "a.*|b.*", running: 2 }],
  }),
  policyOf({
    classes: [{ name: "b", percent: 50, floor: 0 }, { name: "c", percent: 50, floor: 0 }],
    requestors: [{ pattern: "b.*|e.*", class: "b" }],
    ageingMs: 0,
    reserveAfterMs: 0,
    throttles: [{ pattern: ".*", running: 1 }],
  }),
];
const ids = ["w1", "w2", "w3", "w4"].map(workerId);
const platform = fc.constantFrom<Record<string, string>>({}, {}, { os: "linux" }, { os: "linux", gpu: "a" }, {
  os: "plan9",
});
const anyTask: fc.Arbitrary<Partial<QueuedTask>> = fc.record({
  requestor: fc.constantFrom("ada", "bob", "eve"),
  rank: fc.nat(2),
  platform,
  input: fc.constantFrom("x", "y", "z"),
  basis: fc.constantFrom(undefined, "main"),
  needs: fc.constantFrom(
    undefined,
    undefined,
    { memoryBytes: 3 },
    { cpuMillis: 500, memoryBytes: 2 },
    { counters: { licence: 1 } },
    { counters: { licence: 2 }, cpuMillis: 900 },
  ),
});
const anyWorker: fc.Arbitrary<PlacingWorker> = fc.record({
  workerId: fc.constantFrom(...ids),
  slots: fc.integer({ min: 1, max: 3 }),
  platform,
}).chain((worker) =>
  fc.constantFrom<PlacingWorker>(worker, { ...worker, cpuMillis: 1_000 }, {
    ...worker,
    cpuMillis: 2_000,
    memoryBytes: 4,
  })
);
const anyMove: fc.Arbitrary<Move> = fc.oneof(
  { arbitrary: anyTask.map((task): Move => ({ type: "enqueue", task })), weight: 6 },
  { arbitrary: fc.constant<Move>({ type: "place" }), weight: 8 },
  { arbitrary: fc.nat(120).map((ms): Move => ({ type: "pass", ms })), weight: 2 },
  fc.record({ type: fc.constantFrom("finish" as const, "finish" as const, "putBack" as const), which: fc.nat() }),
  fc.record({ type: fc.constant("leave" as const), which: fc.nat() }),
  { arbitrary: anyWorker.map((worker): Move => ({ type: "worker", worker })), weight: 2 },
  fc.constantFrom(...ids).map((id): Move => ({ type: "away", workerId: id })),
  fc.constantFrom(...policies).map((policy): Move => ({ type: "policy", policy })),
);

/**
 * After any history: of each class the first task that has room by the order of queue.ts, and of classes none that has its share
 * while another that has room for a task lacks a slot of its own; nothing waits that has room; the worker is one
 * of those that fleet.ts allows; and no worker or counter gives more than it has.
 * In it: no task waits while a later one of its rank and requestor is given a slot that it could use.
 */
test("decides as a model does that looks at everything anew", () => {
  fc.assert(
    fc.property(fc.array(anyMove, { maxLength: 100, size: "max" }), fc.constantFrom(...policies), (moves, policy) => {
      const view = schedulingView(policy);
      const model: Model = {
        policy,
        workers: new Map(),
        last: new Map(),
        queue: [],
        placed: new Map(),
        served: new Map(),
      };
      let order = 0;
      let nowMs = 0;
      const enqueue = (one: QueuedTask): void => {
        view.enqueue(one);
        model.queue.push({ ...one, order: order++ });
      };
      const leave = (one: Queued): void => {
        model.queue = model.queue.filter((each) => each !== one);
        if (!model.queue.some(({ requestor }) => requestor === one.requestor)) model.served.delete(one.requestor);
        view.dequeue(one.taskId);
      };
      for (const move of moves) {
        switch (move.type) {
          case "enqueue":
            enqueue(task(order, { ...move.task, queuedAtMs: nowMs }));
            break;
          case "pass":
            nowMs += move.ms;
            break;
          case "place": {
            const may = allowed(model);
            const next = view.next(nowMs);
            if (next === undefined) {
              expect(may).toEqual([]);
              break;
            }
            expect(view.next(nowMs)).toEqual(next);
            expect(may.find(({ taskId }) => taskId === next.taskId)?.workers).toContain(next.workerId);
            const placed = model.queue.find((each) => each.taskId === next.taskId)!;
            const worker = model.workers.get(next.workerId)!;
            for (const other of model.queue) {
              const isOfIts = other.requestor === placed.requestor && other.rank === placed.rank;
              const isEarlier = other.again === placed.again && other.order < placed.order;
              if (!isOfIts || !isEarlier) continue;
              expect(able(model, other)).not.toContain(worker);
            }
            leave(placed);
            view.occupy(next.workerId, placed);
            model.placed.set(next.taskId, { workerId: next.workerId, task: placed });
            const { requestor, basis, input, rank } = placed;
            model.last.set(next.workerId, { input, basis: basis && `${requestor} ${basis}` });
            if (model.queue.some((each) => each.requestor === requestor)) {
              const ranks = model.served.get(requestor) ?? new Map<number, number>();
              model.served.set(requestor, ranks.set(rank, nowMs));
            }
            expect(onWorker(model, next.workerId).length).toBeLessThanOrEqual(worker.slots);
            break;
          }
          case "finish":
          case "putBack": {
            const found = [...model.placed.entries()][move.which % Math.max(1, model.placed.size)];
            if (found === undefined) break;
            model.placed.delete(found[0]);
            view.vacate(found[0]);
            if (move.type === "putBack") enqueue({ ...found[1].task, again: true, queuedAtMs: nowMs });
            break;
          }
          case "leave": {
            const found = model.queue[move.which % Math.max(1, model.queue.length)];
            if (found !== undefined) leave(found);
            break;
          }
          case "worker":
            view.setWorker(move.worker);
            model.workers.set(move.worker.workerId, move.worker);
            break;
          case "away":
            view.removeWorker(move.workerId);
            model.workers.delete(move.workerId);
            model.last.delete(move.workerId);
            break;
          case "policy":
            view.setPolicy(move.policy);
            model.policy = move.policy;
        }
        expect(view.queued).toBe(model.queue.length);
        expect(view.busy).toBe(model.placed.size);
        expect(view.workers).toBe(model.workers.size);
        expect(view.slots).toBe(sum([...model.workers.values()], (each) => each.slots));
        for (const id of ids) expect(view.busyOn(id)).toBe(onWorker(model, id).length);
      }
      for (const each of model.queue) {
        const { ahead, class: name, used, waitingInClass, unmet, waitsFor } = view.outlook(each.taskId, nowMs)!;
        const isOfClass = ({ requestor }: Queued): boolean =>
          classOf(model, requestor) === classOf(model, each.requestor);
        const before = model.queue.filter((other) =>
          isOfClass(other) &&
          (other.rank < each.rank || (groupOf(other) === groupOf(each) &&
            (other.again === each.again ? other.order < each.order : other.again)))
        );
        expect(ahead).toBeGreaterThanOrEqual(before.length);
        expect(name).toBe(model.policy.classes[classOf(model, each.requestor)]!.name);
        expect(used).toBe(running(model, isOfClass));
        expect(waitingInClass).toBe(model.queue.filter(isOfClass).length);
        const isPossible = Object.entries(each.needs?.counters ?? {})
          .every(([counter, amount]) => amount <= (model.policy.counters[counter] ?? 0)) &&
          [...model.workers.values()].some((worker) => isMet(worker, each) && hasRoom(worker, each, []));
        expect(unmet === undefined).toBe(isPossible);
        expect(waitsFor === "throttle").toBe(isThrottled(model, each));
      }
    }),
    cases,
  );
});

/**
 * After any history, also with floors and with room that is kept: no worker or counter gives more than it has, and once
 * nothing more comes and what runs ends, everything runs that a worker could run.
 */
test("nothing that could run is left behind, and nothing is given twice", () => {
  const anyPolicy = fc.constantFrom(...policies).chain((policy) =>
    fc.record({ reserveAfterMs: fc.constantFrom(0, 50), floor: fc.nat(3) }).map((
      { reserveAfterMs, floor },
    ): Policy => ({
      ...policy,
      reserveAfterMs,
      classes: policy.classes.map((one, at) => at === 0 ? { ...one, floor } : one),
    }))
  );
  const move = fc.oneof(
    { arbitrary: anyMove.filter(({ type }) => type !== "policy"), weight: 20 },
    anyPolicy.map((policy): Move => ({ type: "policy", policy })),
  );
  fc.assert(
    fc.property(fc.array(move, { maxLength: 100, size: "max" }), anyPolicy, (moves, first) => {
      const view = schedulingView(first);
      const model: Model = {
        policy: first,
        workers: new Map(),
        last: new Map(),
        queue: [],
        placed: new Map(),
        served: new Map(),
      };
      let order = 0;
      let nowMs = 0;
      const place = (): boolean => {
        const next = view.next(nowMs);
        if (next === undefined) return false;
        const placed = model.queue.find(({ taskId }) => taskId === next.taskId)!;
        expect(able(model, placed).map(({ workerId }) => workerId)).toContain(next.workerId);
        model.queue = model.queue.filter((one) => one !== placed);
        model.placed.set(next.taskId, { workerId: next.workerId, task: placed });
        view.dequeue(next.taskId);
        view.occupy(next.workerId, placed);
        return true;
      };
      const finish = (which: number): void => {
        const found = [...model.placed.keys()][which % Math.max(1, model.placed.size)];
        if (found === undefined) return;
        model.placed.delete(found);
        view.vacate(found);
      };
      for (const one of moves) {
        if (one.type === "place") place();
        else if (one.type === "pass") nowMs += one.ms;
        else if (one.type === "finish" || one.type === "putBack") finish(one.which);
        else if (one.type === "enqueue") {
          const fresh = task(order, { ...one.task, queuedAtMs: nowMs });
          model.queue.push({ ...fresh, order: order++ });
          view.enqueue(fresh);
        } else if (one.type === "leave") {
          const [left] = model.queue.splice(one.which % Math.max(1, model.queue.length), 1);
          if (left !== undefined) view.dequeue(left.taskId);
        } else if (one.type === "worker") {
          model.workers.set(one.worker.workerId, one.worker);
          view.setWorker(one.worker);
        } else if (one.type === "away") {
          model.workers.delete(one.workerId);
          view.removeWorker(one.workerId);
        } else if ("policy" in one) {
          model.policy = one.policy;
          view.setPolicy(one.policy);
        }
      }
      const fitting = model.queue.filter(({ taskId }) => view.outlook(taskId, nowMs)!.unmet === undefined);
      for (let round = 0; round <= order; round++) {
        nowMs += 10;
        while (place());
        finish(round);
      }
      expect(model.queue.filter((one) => fitting.includes(one))).toEqual([]);
      expect(model.queue.every(({ taskId }) => view.outlook(taskId, nowMs)!.unmet !== undefined)).toBe(true);
    }),
    cases,
  );
});

// ---- bounds --------------------------------------------------------------------------------------------------------------

/** Places all that can be, and says what was placed. */
function placeAll(view: SchedulingView, known: ReadonlyMap<TaskId, QueuedTask>, nowMs: number): TaskId[] {
  const placed: TaskId[] = [];
  for (let next = view.next(nowMs); next !== undefined; next = view.next(nowMs)) {
    view.dequeue(next.taskId);
    view.occupy(next.workerId, known.get(next.taskId)!);
    placed.push(next.taskId);
  }
  return placed;
}
const equalWorkers = (view: SchedulingView, count: number): void => {
  for (let at = 0; at < count; at++) view.setWorker({ workerId: workerId(`w${at}`), slots: 1, platform: {} });
};
/** Classes c0, c1, … with the requestors of those names. */
const classesOf = (percents: readonly number[], floors: readonly number[] = []): Partial<Policy> => ({
  classes: percents.map((percent, at) => ({ name: `c${at}`, percent, floor: floors[at] ?? 0 })),
  requestors: percents.map((_, at) => ({ pattern: `c${at}`, class: `c${at}` })),
});
const anyPercents = fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 2, maxLength: 8 })
  .map((weights) => weights.map((weight) => weight * 100 / sum(weights, (one) => one)));

/** Bound: while all classes have work and workers stay, |running − percentage of all slots| < 1, whatever ends and when. */
test("each class has its share within one slot", () => {
  fc.assert(
    fc.property(
      anyPercents,
      fc.integer({ min: 1, max: 40 }),
      fc.array(fc.record({ ends: fc.array(fc.nat(), { minLength: 1, maxLength: 5 }), ms: fc.nat(3_000) }), {
        maxLength: 60,
        size: "max",
      }),
      (percents, slots, rounds) => {
        const view = schedulingView(policyOf(classesOf(percents)));
        equalWorkers(view, slots);
        const known = new Map<TaskId, QueuedTask>();
        let nowMs = 0;
        const running: TaskId[] = [];
        const fill = (): void => {
          for (const at of percents.keys()) {
            const requestor = `c${at}`;
            const waits = [...known.values()].filter((one) => one.requestor === requestor).length -
              running.filter((id) => known.get(id)!.requestor === requestor).length;
            for (let more = waits; more < slots; more++) {
              const one = task(known.size, { requestor, queuedAtMs: nowMs });
              known.set(one.taskId, one);
              view.enqueue(one);
            }
          }
        };
        const ended: TaskId[] = [];
        const check = (): void => {
          for (const [at, percent] of percents.entries()) {
            const has = running.filter((id) => known.get(id)!.requestor === `c${at}`).length;
            expect(Math.abs(has - slots * percent / 100)).toBeLessThan(1);
          }
        };
        fill();
        running.push(...placeAll(view, known, nowMs));
        check();
        for (const { ends, ms } of rounds) {
          nowMs += ms;
          for (const which of ends) {
            const [id] = running.splice(which % Math.max(1, running.length), 1);
            if (id === undefined) break;
            view.vacate(id);
            ended.push(id);
            const one = task(known.size, { requestor: known.get(id)!.requestor, queuedAtMs: nowMs });
            known.set(one.taskId, one);
            view.enqueue(one);
          }
          running.push(...placeAll(view, known, nowMs));
          expect(running).toHaveLength(slots);
          check();
        }
      },
    ),
    cases,
  );
});

/** Bound: a class has its floor, as far as it asks for it, once every task that ran when it asked has ended. */
test("a floor is met within one task's length, whoever had the slots", () => {
  fc.assert(
    fc.property(
      anyPercents,
      fc.integer({ min: 1, max: 40 }),
      fc.nat(),
      fc.array(fc.nat(), { minLength: 8, maxLength: 8 }),
      fc.infiniteStream(fc.nat()),
      (percents, slots, asked, drawn, chance) => {
        let left = slots;
        const floors = percents.map((_, at) => {
          const floor = drawn[at]! % (left + 1);
          left -= floor;
          return floor;
        });
        const view = schedulingView(policyOf(classesOf(percents, floors)));
        equalWorkers(view, slots);
        const known = new Map<TaskId, QueuedTask>();
        const add = (requestor: string, count: number): void => {
          for (let more = 0; more < count; more++) {
            const one = task(known.size, { requestor });
            known.set(one.taskId, one);
            view.enqueue(one);
          }
        };
        const asks = asked % percents.length;
        for (const at of percents.keys()) if (at !== asks) add(`c${at}`, 3 * slots);
        const before = placeAll(view, known, 0);
        add(`c${asks}`, slots);
        const placed = [...before];
        for (let open = [...before], nowMs = 1; open.length > 0; nowMs++) {
          const [id] = open.splice(chance.next().value! % open.length, 1);
          view.vacate(id!);
          placed.splice(placed.indexOf(id!), 1);
          placed.push(...placeAll(view, known, nowMs));
        }
        expect(placed.filter((id) => known.get(id)!.requestor === `c${asks}`).length)
          .toBeGreaterThanOrEqual(floors[asks]!);
      },
    ),
    cases,
  );
});

/**
 * Bound: with one slot, tasks of at most `durationMs` and G other groups, a task of rank r that is the head of its group
 * starts at most (r + 1) × ageingMs + (G + 1) × durationMs after it was queued, though tasks of rank 0 never run out.
 */
test("nothing starves: a task of high rank is started in a time that is known", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 6 }),
      fc.integer({ min: 1, max: 8 }),
      fc.integer({ min: 10, max: 500 }),
      fc.integer({ min: 1, max: 100 }),
      fc.nat(1_000),
      (rank, others, ageingMs, durationMs, startMs) => {
        const view = schedulingView(policyOf({ ageingMs }));
        equalWorkers(view, 1);
        const known = new Map<TaskId, QueuedTask>();
        let nowMs = startMs;
        const add = (changes: Partial<QueuedTask>): TaskId => {
          const one = task(known.size, { queuedAtMs: nowMs, ...changes });
          known.set(one.taskId, one);
          view.enqueue(one);
          return one.taskId;
        };
        for (let at = 0; at < others; at++) for (let two = 0; two < 2; two++) add({ requestor: `r${at}`, rank: 0 });
        const low = add({ requestor: "low", rank });
        const endMs = startMs + (rank + 1) * ageingMs + (others + 1) * durationMs;
        for (;;) {
          const [id] = placeAll(view, known, nowMs);
          if (id === low) break;
          nowMs += durationMs;
          add({ requestor: known.get(id!)!.requestor, rank: 0 });
          view.vacate(id!);
          expect(nowMs).toBeLessThanOrEqual(endMs);
        }
        expect(nowMs).toBeLessThanOrEqual(endMs);
      },
    ),
    cases,
  );
});

/**
 * Bound: a task that needs a whole worker starts at most 9/8 × reserveAfterMs and a small task's length after its turn came
 * for the first time, though small tasks never run out; when none of another size has waited longer, which then goes first.
 */
test("a big task gets its room from small ones that never run out", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 5 }),
      fc.integer({ min: 2, max: 4 }),
      fc.integer({ min: 8, max: 1_000 }),
      fc.integer({ min: 2, max: 50 }),
      (workers, slots, reserveAfterMs, durationMs) => {
        const view = schedulingView(policyOf({ reserveAfterMs }));
        for (let at = 0; at < workers; at++) {
          view.setWorker({ workerId: workerId(`w${at}`), slots: slots + 1, platform: {}, memoryBytes: slots });
        }
        const known = new Map<TaskId, QueuedTask>();
        const ends = new Map<TaskId, number>();
        let nowMs = 0;
        const add = (changes: Partial<QueuedTask>): TaskId => {
          const one = task(known.size, { queuedAtMs: nowMs, ...changes });
          known.set(one.taskId, one);
          view.enqueue(one);
          return one.taskId;
        };
        const place = (): TaskId[] => {
          const placed = placeAll(view, known, nowMs);
          // They end one after the other: no two of a worker at once.
          for (const [at, id] of placed.entries()) ends.set(id, nowMs + durationMs - at % Math.min(2, durationMs));
          return placed;
        };
        for (let at = 0; at < 3 * workers * slots; at++) add({ needs: { memoryBytes: 1 } });
        place();
        const big = add({ rank: 0, needs: { memoryBytes: slots } });
        const endMs = Math.ceil(reserveAfterMs * 9 / 8) + durationMs + 1;
        for (let started = place(); !started.includes(big); started = place()) {
          nowMs++;
          for (const [id, atMs] of ends) {
            if (atMs > nowMs) continue;
            ends.delete(id);
            view.vacate(id);
            add({ needs: { memoryBytes: 1 } });
          }
          expect(nowMs).toBeLessThanOrEqual(endMs);
        }
      },
    ),
    cases,
  );
});
