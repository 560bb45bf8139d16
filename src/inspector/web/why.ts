import type { Moment } from "../moments.ts";
import type { JobWhy } from "../../protocol/client_messages.ts";
import { ask } from "./data.ts";

/** How long a page waits for it before it is shown without. */
const waitMs = 250;
let kept: { readonly key: string; readonly found: Promise<JobWhy | undefined> } | undefined;

/**
 * What the scheduler says of the tasks of a job that wait, which takes the whole queue of that moment.
 *
 * @returns by task; undefined: it is still being found, and comes when it is asked again.
 */
export async function whyOf(
  jobId: string,
  { seq, atMs }: Moment,
  isNow: boolean,
): Promise<ReadonlyMap<string, string> | undefined> {
  const key = `${jobId} ${seq}`;
  if (kept?.key !== key) {
    const found = ask<JobWhy>(`/v1/jobs/${jobId}/why`, isNow ? {} : { at: atMs }).catch(() => undefined);
    kept = { key, found };
  }
  const { found } = kept;
  const late = new Promise<"late">((resolve) => setTimeout(() => resolve("late"), waitMs));
  const why = await Promise.race([found, late]);
  if (why === "late") return undefined;
  return new Map(why?.tasks.map(({ task }) => [task.taskId, task.why]) ?? []);
}
