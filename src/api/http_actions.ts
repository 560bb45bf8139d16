import * as v from "valibot";
import type { Digest } from "../domain/digest.ts";
import { Fault } from "../domain/fault.ts";
import type { TaskId, WorkerId } from "../domain/ids.ts";
import { digest, parse, taskId, whole, workerId } from "../protocol/schema.ts";
import type { HttpCalls } from "./http_calls.ts";

const made = v.looseObject({
  by: v.picklist(["job", "upload"]),
  taskId: v.exactOptional(taskId),
  attempt: v.exactOptional(whole(1)),
  workerId: v.exactOptional(workerId),
  requestor: v.exactOptional(v.string()),
  atMs: whole(0),
  durationMs: whole(0),
});
const output = v.variant("kind", [
  v.looseObject({ kind: v.literal("file"), path: v.string(), digest, executable: v.boolean() }),
  /** `digest` is that of a `Directory`, or else of a `Tree`. */
  v.looseObject({
    kind: v.literal("directory"),
    path: v.string(),
    digest: v.exactOptional(digest),
    tree: v.exactOptional(digest),
  }),
  v.looseObject({ kind: v.literal("symlink"), path: v.string(), target: v.string() }),
]);
const result = v.looseObject({
  exitCode: v.number(),
  stdout: v.exactOptional(digest),
  stderr: v.exactOptional(digest),
  outputs: v.array(output),
});
const summary = {
  /** REAPI's instance name; "" for jobs. */
  instance: v.string(),
  action: digest,
  made,
  /** Hits, and when the last was; a few seconds old. */
  useCount: whole(0),
  usedAtMs: whole(0),
  /** How often the same action was seen to end otherwise. */
  differedCount: whole(0),
};
export const actionSummary = v.looseObject(summary);
export const actionView = v.looseObject({
  ...summary,
  result,
  /** The newest 1,000 that were given it, oldest first. */
  usedBy: v.array(taskId),
  differed: v.exactOptional(v.looseObject({ count: whole(1), result, made })),
});
const page = v.looseObject({
  actions: v.array(actionSummary),
  next: v.exactOptional(v.looseObject({ instance: v.string(), action: digest })),
});
const line = v.variant("type", [
  v.looseObject({
    type: v.literal("revoked"),
    instance: v.string(),
    action: digest,
    made,
    usedBy: v.array(taskId),
  }),
  v.looseObject({ type: v.literal("end"), count: whole(0) }),
  v.looseObject({ type: v.literal("fault"), code: v.string(), message: v.string() }),
]);

/** A result that the cluster keeps, without what it holds. */
export type ActionSummary = v.InferOutput<typeof actionSummary>;
/** All that is known of a result that the cluster keeps. */
export type ActionView = v.InferOutput<typeof actionView>;
/** A result that was taken back, and the newest 1,000 tasks that had been given it. */
export type RevokedAction = Extract<v.InferOutput<typeof line>, { type: "revoked" }>;

/** Results of actions that the cluster keeps, by which what succeeded before is not run again. */
export interface Actions {
  /**
   * @param of an action's digest, or a task that was run of it or given its result.
   * @param instance REAPI's instance name; "" is that of jobs.
   * @throws {Fault} `ACTION_UNKNOWN` when nothing is kept of it; `JOB_UNKNOWN`, `TASK_UNKNOWN`.
   */
  show(of: { readonly action: Digest; readonly instance?: string } | { readonly task: TaskId }): Promise<ActionView>;
  /** By instance, then by action. */
  list(options?: { readonly limit?: number }): AsyncIterable<ActionSummary>;
  /**
   * Takes back what a worker made since then: from now on such tasks run again. What was given before stays with the jobs
   * that it was given to; they are named.
   *
   * @throws {Fault} `PEER_UNREACHABLE` when the answer was cut off: what was not named may be taken back all the same.
   */
  revoke(options: { readonly workerId: WorkerId; readonly sinceMs: number }): AsyncIterable<RevokedAction>;
}

const pageMax = 500;
const lineBytesMax = 256 * 1024;

export function httpActions(calls: HttpCalls): Actions {
  return {
    async show(of) {
      const path = "task" in of
        ? `/v1/actions/of/${of.task}`
        : `/v1/actions/${of.action}?${new URLSearchParams({ instance: of.instance ?? "" })}`;
      return parse(actionView, "a kept result", await calls.json({ method: "GET", path }));
    },
    async *list({ limit = Infinity } = {}) {
      let left = limit;
      let after: { readonly instance: string; readonly action: Digest } | undefined;
      for (;;) {
        const query = new URLSearchParams({
          limit: String(Math.min(left, pageMax)),
          ...(after === undefined ? {} : { after: after.action, afterInstance: after.instance }),
        });
        const { actions, next } = parse(
          page,
          "a list of kept results",
          await calls.json({ method: "GET", path: `/v1/actions?${query}` }),
        );
        yield* actions;
        left -= actions.length;
        if (next === undefined || left <= 0) return;
        after = next;
      }
    },
    async *revoke(options) {
      const body = new TextEncoder().encode(JSON.stringify(options));
      const incoming = await calls.send({
        method: "POST",
        path: "/v1/actions/revoke",
        type: "application/json",
        body: () => body,
        mayRepeat: () => false, // what it named the first time it would not name again
      });
      try {
        for await (const text of linesOf(incoming)) {
          const told = parse(line, "a revoked result", JSON.parse(text));
          if (told.type === "end") return;
          if (told.type === "fault") throw new Fault("INTERNAL", told.message);
          yield told;
        }
      } catch (thrown) {
        if (thrown instanceof Fault) throw thrown;
        throw cutOff(thrown);
      } finally {
        incoming.destroy();
      }
      throw cutOff();
    },
  };
}

const cutOff = (cause?: unknown): Fault =>
  new Fault(
    "PEER_UNREACHABLE",
    "Cannot read what was revoked to its end: the answer was cut off. Revoke again; what was revoked already is not named then",
    { cause },
  );

async function* linesOf(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const utf8 = new TextDecoder();
  let held = "";
  for await (const chunk of chunks) {
    held += utf8.decode(chunk, { stream: true });
    for (let end = held.indexOf("\n"); end >= 0; end = held.indexOf("\n")) {
      yield held.slice(0, end);
      held = held.slice(end + 1);
    }
    if (held.length > lineBytesMax) {
      throw new Fault("FRAME_TOO_LONG", `Cannot read an answer as a line must be at most ${lineBytesMax} characters`);
    }
  }
}
