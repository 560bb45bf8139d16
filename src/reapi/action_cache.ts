import type { Digest } from "../domain/digest.ts";
import { Fault } from "../domain/fault.ts";
import { message, one, text } from "../protocol/reapi/codec.ts";
import { methods } from "../protocol/reapi/services.ts";
import type { Clock } from "../runtime/clock.ts";
import type { ActionCache } from "../snapshots/actions/actions.ts";
import type { Blobs } from "../snapshots/blobs/blobs.ts";
import { checkDigest, checkScope, type Instances, type Served, serveUnary } from "./calls.ts";
import { keptResult } from "./tree_result.ts";

/** What an answer says at least: clients take an ActionResult of no bytes for a mistake. */
export const fromUnknownWorker = message("an ActionResult", {
  executionMetadata: one(9, message("ExecutedActionMetadata", { worker: text(1) })),
}).encode({ executionMetadata: { worker: "unknown" } });

export const resultUnknown = (action: Digest): Fault =>
  new Fault("ACTION_UNKNOWN", `There is no result of action ${action} in the cache, or something of it is gone`);

export function serveActionCache(
  served: Served,
  { actions, blobs }: { readonly actions: ActionCache; readonly blobs: Blobs },
  instances: Instances,
  clock: Clock,
): void {
  serveUnary(served, methods.getActionResult, async (request, { signal }) => {
    const instance = checkScope(instances, request);
    const action = checkDigest(request.actionDigest, "an action");
    const found = await keptResult({ instance, action }, { actions, blobs }, signal);
    if (found === undefined) throw resultUnknown(action);
    return found.length === 0 ? fromUnknownWorker : found;
  });

  serveUnary(served, methods.updateActionResult, async (request, { signal }) => {
    const instance = checkScope(instances, request);
    const action = checkDigest(request.actionDigest, "an action");
    const made = { by: "upload", atMs: clock.now(), durationMs: 0 } as const;
    await actions.put({ instance, action }, request.actionResult, made, { replace: true, checked: true, signal });
    return request.actionResult;
  });
}
