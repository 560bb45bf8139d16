import type { Digest } from "../domain/digest.ts";
import { Fault } from "../domain/fault.ts";
import { jobId, taskId, workerId } from "../domain/ids.ts";
import { decodeActionResult } from "../protocol/reapi/action_result.ts";
import { executeResponse } from "../protocol/reapi/messages.ts";
import { methods } from "../protocol/reapi/services.ts";
import type { Clock } from "../runtime/clock.ts";
import { randomHex } from "../runtime/random.ts";
import type { ActionCache, ActionKey } from "../snapshots/actions/actions.ts";
import type { Blobs } from "../snapshots/blobs/blobs.ts";
import type { TreeKeeper } from "../snapshots/lease.ts";
import { fromUnknownWorker } from "./action_cache.ts";
import { msOf } from "./asset_records.ts";
import { readAction } from "./asked_action.ts";
import {
  type Call,
  checkDigest,
  checkInstance,
  checkScope,
  clientOf,
  type Instances,
  type Served,
  serveStream,
  serveUnary,
} from "./calls.ts";
import { checkPriority } from "./capabilities.ts";
import { cachedResponse, ended, missingResponse, type Operation } from "./execution_answers.ts";
import { type Operations, operationUnknown } from "./operations.ts";
import type { Tasks } from "./tasks.ts";
import { keptResult } from "./tree_result.ts";

export interface ExecutionOptions {
  readonly operations: Operations;
  readonly tasks: Tasks;
  readonly blobs: Blobs;
  readonly trees: TreeKeeper;
  readonly actions: ActionCache;
  readonly instances: Instances;
  readonly clock: Clock;
}

const listedMax = 1_000;
/** What a waiting call is answered within, before clients give it up. */
const waitMsMax = 45_000;

export function serveExecution(served: Served, options: ExecutionOptions): void {
  const { operations, tasks, blobs, trees, actions, instances, clock } = options;

  /** Of what ended before it began: nobody finds it again by this name, and executes anew. */
  const atOnce = (instance: string): string =>
    `${instance === "" ? "" : `${instance}/`}operations/at-once/${randomHex(8)}`;

  serveStream(served, methods.execute, async function* (request, call) {
    const { signal } = call;
    const instance = checkScope(instances, request);
    const digest = checkDigest(request.actionDigest, "an action");
    const priority = checkPriority(request.executionPolicy?.priority ?? 0);
    if (!request.skipCacheLookup) {
      const found = await keptResult({ instance, action: digest }, { actions, blobs }, signal);
      if (found !== undefined) {
        return yield ended(atOnce(instance), digest, cachedResponse(found.length === 0 ? fromUnknownWorker : found));
      }
    }
    const read = await readAction({ blobs, trees }, digest, signal);
    if ("missing" in read) return yield ended(atOnce(instance), digest, missingResponse(read.missing));
    await checkPlatform(tasks, read.platform);
    const name = await operations.begin({
      ...labelsOf(call, digest),
      priority,
      action: { instance, digest },
      command: read.action.command,
      inputRoot: read.action.inputRoot,
      timeoutMs: read.timeoutMs,
      platform: read.platform,
      cache: read.action.doNotCache ? "off" : request.skipCacheLookup ? "refresh" : "use",
    });
    for await (const operation of operations.follow(name, signal)) {
      // Whoever was told of a new result finds it from then on, and not the older one (REAPI checklist X-4).
      if (operation.done && request.skipCacheLookup && !read.action.doNotCache) {
        await keepNew({ instance, action: digest }, operation, { actions, clock });
      }
      yield operation;
    }
  });

  serveStream(served, methods.waitExecution, ({ name }, { signal }) => operations.follow(name, signal));

  serveUnary(served, methods.getOperation, ({ name }, { signal }) => first(operations, name, signal));

  serveUnary(served, methods.waitOperation, async ({ name, timeout }, { signal }) => {
    const askedMs = timeout === undefined ? waitMsMax : timeout.seconds * 1_000 + timeout.nanos / 1e6;
    const late = new AbortController();
    const cancelTimer = clock.at(
      clock.now() + Math.max(0, Math.min(askedMs, waitMsMax)),
      () => late.abort(new Fault("CANCELLED", "It goes on for longer")),
    );
    let last: Operation | undefined;
    try {
      for await (const operation of operations.follow(name, AbortSignal.any([signal, late.signal]))) last = operation;
    } catch (thrown) {
      if (!late.signal.aborted) throw thrown;
    } finally {
      cancelTimer();
    }
    return last ?? await first(operations, name, signal);
  });

  serveUnary(served, methods.cancelOperation, async ({ name }) => {
    await operations.cancel(name);
    return {};
  });

  serveUnary(served, methods.listOperations, ({ name, filter, pageSize, pageToken }) => {
    if (filter !== "") {
      throw new Fault("REQUEST_INVALID", "Cannot list operations by a filter: name an instance, or list all");
    }
    const instance = name === "" ? undefined : checkInstance(instances, name.replace(/(^|\/)operations$/, ""));
    if (pageSize < 0) {
      throw new Fault("REQUEST_INVALID", `Cannot list operations as page_size must be at least 0: it is ${pageSize}`);
    }
    const after = operations.list(instance).filter((each) => each.name > pageToken);
    const page = after.slice(0, pageSize === 0 ? listedMax : Math.min(pageSize, listedMax));
    return { operations: page, nextPageToken: page.length < after.length ? page.at(-1)!.name : "" };
  });
}

async function first(operations: Operations, name: string, signal: AbortSignal): Promise<Operation> {
  for await (const operation of operations.follow(name, signal)) return operation;
  throw operationUnknown(name);
}

/** As the scheduler does, who may be later with it: the same result twice is one entry. */
async function keepNew(
  key: ActionKey,
  { name, response }: Operation,
  { actions, clock }: Pick<ExecutionOptions, "actions" | "clock">,
): Promise<void> {
  const { result, status, cachedResult } = executeResponse.decode(response!.value);
  if (result.length === 0 || cachedResult || (status?.code ?? 0) !== 0) return;
  const { exitCode, execution } = decodeActionResult(result);
  if (exitCode !== 0) return;
  const { worker = "", executionStartedAt: from, executionCompletedAt: to } = execution ?? {};
  await actions.put(key, result, {
    by: "job",
    taskId: taskId(jobId(name.split("/").at(-2)!), 0),
    ...(worker === "" ? {} : { workerId: workerId(worker) }),
    atMs: clock.now(),
    durationMs: from === undefined || to === undefined ? 0 : Math.max(0, msOf(to) - msOf(from)),
  }, { replace: true });
}

/** Who asks and for what, as far as the client says it. */
function labelsOf(
  call: Call,
  action: Digest,
): { readonly requestor: string; readonly tag: string; readonly name: string } {
  const client = clientOf(call);
  const tool = client?.toolDetails?.toolName || "reapi";
  const build = client?.correlatedInvocationsId || client?.toolInvocationId || "";
  const what = [client?.actionMnemonic ?? "", client?.targetId ?? ""].filter((part) => part !== "").join(" ");
  return {
    requestor: label(build === "" ? tool : `${tool}/${build}`),
    tag: label(what),
    name: label(what) || action.slice(0, 12),
  };
}

// deno-lint-ignore no-control-regex -- those are what is taken out
const label = (text: string): string => text.slice(0, 200).toWellFormed().replaceAll(/[\u0000-\u001f\u007f]/g, " ");

/** What no worker that is here has, none will have soon. While none is told of, one may come: the scheduler tells later. */
async function checkPlatform(tasks: Tasks, wanted: Readonly<Record<string, string>>): Promise<void> {
  const properties = Object.entries(wanted);
  if (properties.length === 0) return;
  const platforms = await tasks.platforms();
  const fits = (platform: Readonly<Record<string, string>>): boolean =>
    properties.every(([name, value]) => platform[name] === value);
  if (platforms.length === 0 || platforms.some(fits)) return;
  const shown = [...new Set(platforms.map((platform) => JSON.stringify(platform)))].slice(0, 20).join(", ");
  throw new Fault(
    "REQUEST_INVALID",
    `Cannot run the action as a worker must have the platform ${
      JSON.stringify(wanted)
    }: those that are here have ${shown}`,
  );
}
