import { expect, test } from "vitest";
import type { Host } from "../../src/actors/host.ts";
import { createPlacement } from "../../src/actors/placement.ts";
import type { SchedulerIndex } from "../../src/actors/scheduler_index.ts";
import type { Sharing } from "../../src/actors/sharing.ts";
import { jobId, nameOf, type TaskId, taskId } from "../../src/domain/ids.ts";
import type { TaskContext } from "../../src/machines/task.ts";

test("of very many that wait for a task that no worker could run, each is told in a step of its own what that was told", () => {
  const job = jobId("j0123456789-000000");
  const [leader, ...followers] = Array.from({ length: 20_001 }, (_, index) => taskId(job, index));
  const unmet = { lacks: ["gpu=a"] };
  const contexts = new Map<string, Partial<TaskContext>>();
  const leaders = new Map<TaskId, TaskId>(followers.map((follower) => [follower, leader!]));
  const steps: (() => void)[] = [];
  let told: string[] = [];
  let news: unknown[] = [{ taskId: leader, unmet, fails: false }];
  const placement = createPlacement(
    {
      state: (address: string) => ({ context: contexts.get(address) ?? {} }),
      tell(address: string, event: { readonly type: string; readonly unmet?: TaskContext["unmet"] }) {
        told.push(`${nameOf(address as never)} ${event.type}`);
        contexts.set(address, event.unmet === undefined ? {} : { unmet: event.unmet });
      },
      enqueue: (step: () => void) => void steps.push(step),
    } as unknown as Host,
    {
      view: { queued: 1, mayPass: false, preemptions: () => [], news: () => news.splice(0), next: () => undefined },
      takeRestored: () => false,
    } as unknown as SchedulerIndex,
    {
      followersOf: () => leaders.keys(),
      followed: (id: TaskId) => leaders.get(id),
      giveWay: () => false,
    } as unknown as Sharing,
  );
  placement.place(0);
  expect(told).toHaveLength(251);
  leaders.delete(followers.at(-1)!); // killed meanwhile
  for (const step of steps.splice(0)) step();
  expect(told).toHaveLength(20_000);
  expect(new Set(told)).toEqual(new Set([leader!, ...followers.slice(0, -1)].map((id) => `${id} task.unplaceable`)));

  told = [];
  news = [{ taskId: leader, unmet: undefined, fails: false }];
  placement.place(1_000);
  expect(told).toHaveLength(251);
  for (const step of steps.splice(0)) step();
  expect(told).toHaveLength(20_000);
  expect(told.every((line) => line.endsWith(" task.placeable"))).toBe(true);
});
