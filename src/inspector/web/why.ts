import type { JobWhy } from "../../protocol/client_messages.ts";
import type { Moment } from "../moments.ts";
import { ask } from "./data.ts";
import { late } from "./late.ts";

const whys = late<ReadonlyMap<string, string>>();
const manyWhys = late<ReadonlyMap<string, string>>();

/**
 * What the scheduler says of the tasks of a job that wait, by task, which takes the whole queue of that moment. When it
 * cannot be had, what the states themselves say stands.
 */
export const whyOf = (jobId: string, { seq, atMs }: Moment, isNow: boolean) =>
  whys(`${jobId} ${isNow ? "now" : seq}`, String(seq), () => found(jobId, isNow ? {} : { at: atMs }));

/** The same of several jobs, of now. */
export const whysOf = (jobIds: readonly string[], { seq }: Moment) =>
  manyWhys(jobIds.join(" "), String(seq), async () => {
    const all = await Promise.all(jobIds.map((jobId) => found(jobId, {})));
    return new Map(all.flatMap((one) => [...one]));
  });

async function found(jobId: string, when: { readonly at?: number }): Promise<ReadonlyMap<string, string>> {
  try {
    const { tasks } = await ask<JobWhy>(`/v1/jobs/${jobId}/why`, when);
    return new Map(tasks.map(({ task }) => [task.taskId, task.why]));
  } catch {
    return new Map();
  }
}
