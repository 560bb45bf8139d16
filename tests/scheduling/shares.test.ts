import { expect, test } from "vitest";
import { jobId, type TaskId, taskId, workerId } from "../../src/domain/ids.ts";
import { seededRandom } from "../../src/runtime/random.ts";
import { type QueuedTask, schedulingView } from "../../src/scheduling/plan.ts";
import { checkPolicy, defaultPolicy } from "../../src/scheduling/policy.ts";

const job = jobId("j0123456789-000000");
const minuteMs = 60_000;

/** Classes whose tasks are of very different lengths, at most 5 s; one has all slots when the others come. */
test.each([1, 2, 3])(
  "in every minute each class has its percentage of slot-seconds within 2 points, seed %i",
  (seed) => {
    const random = seededRandom(seed);
    const classes = [
      { name: "a", percent: 47, floor: 0, longestMs: 5_000 },
      { name: "b", percent: 31.5, floor: 0, longestMs: 300 },
      { name: "c", percent: 15.5, floor: 0, longestMs: 5_000 },
      { name: "d", percent: 6, floor: 0, longestMs: 1_500 },
    ];
    const slots = 100;
    const view = schedulingView(checkPolicy({
      ...defaultPolicy,
      classes: classes.map(({ name, percent, floor }) => ({ name, percent, floor })),
      requestors: classes.map(({ name }) => ({ pattern: `${name}.*`, class: name })),
    }));
    for (let at = 0; at < slots / 4; at++) view.setWorker({ workerId: workerId(`w${at}`), slots: 4, platform: {} });

    const known = new Map<TaskId, QueuedTask & { readonly classAt: number }>();
    let count = 0;
    const enqueue = (classAt: number, nowMs: number): void => {
      const { name } = classes[classAt]!;
      const one = {
        classAt,
        taskId: taskId(job, count++),
        requestor: `${name}${random.integer(3)}`,
        rank: random.integer(3),
        platform: {},
        input: "x",
        again: false,
        queuedAtMs: nowMs,
      };
      known.set(one.taskId, one);
      view.enqueue(one);
    };
    const ends = new Map<number, TaskId[]>();
    const used = classes.map(() => [] as number[]);
    const place = (nowMs: number): void => {
      for (let next = view.next(nowMs); next !== undefined; next = view.next(nowMs)) {
        const one = known.get(next.taskId)!;
        view.dequeue(one.taskId);
        view.occupy(next.workerId, one);
        const endMs = nowMs + 1 + random.integer(classes[one.classAt]!.longestMs);
        ends.set(endMs, [...ends.get(endMs) ?? [], one.taskId]);
        enqueue(one.classAt, nowMs);
        for (let at = nowMs; at < endMs;) {
          const minute = Math.floor((at - firstMs) / minuteMs);
          const untilMs = Math.min(endMs, firstMs + (minute + 1) * minuteMs);
          if (minute >= 0) used[one.classAt]![minute] = (used[one.classAt]![minute] ?? 0) + untilMs - at;
          at = untilMs;
        }
      }
    };
    const beginMs = 1_000;
    const firstMs = beginMs + 5_000;
    for (let more = 0; more < 2 * slots; more++) enqueue(0, 0);
    place(0);
    const minutes = 5;
    for (let nowMs = 1; nowMs < firstMs + minutes * minuteMs; nowMs++) {
      if (nowMs === beginMs) {
        for (const at of [1, 2, 3]) {
          for (let more = 0; more < 2 * slots; more++) enqueue(at, nowMs);
        }
      }
      const those = ends.get(nowMs);
      if (those === undefined && nowMs !== beginMs) continue;
      ends.delete(nowMs);
      for (const id of those ?? []) {
        view.vacate(id);
        known.delete(id);
      }
      place(nowMs);
    }
    for (const [at, { percent }] of classes.entries()) {
      for (let minute = 0; minute < minutes; minute++) {
        const has = used[at]![minute]! / (slots * minuteMs) * 100;
        expect(Math.abs(has - percent), `class ${classes[at]!.name} in minute ${minute}: ${has} %`).toBeLessThan(2);
      }
    }
  },
);
