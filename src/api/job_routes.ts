import type { Hono } from "hono";
import { type Digest, emptyDigest, sizeOf } from "../domain/digest.ts";
import { Fault, type FaultData } from "../domain/fault.ts";
import { jobOfTask, type TaskId } from "../domain/ids.ts";
import { type EncodedJob, encodedJob, parseFromClient, parseJobSpec } from "../protocol/client_messages.ts";
import { parse } from "../protocol/schema.ts";
import { parseSettings } from "../protocol/settings.ts";
import type { Clock } from "../runtime/clock.ts";
import { randomHex } from "../runtime/random.ts";
import { blobMissing, type Blobs } from "../snapshots/blobs/blobs.ts";
import type { TreeKeeper } from "../snapshots/lease.ts";
import type { Change } from "./client.ts";
import { type Gateway, unexpected } from "./gateway.ts";
import { blobAnswers, sandbox, startingWith, streamOf } from "./http_answers.ts";
import {
  type Bodies,
  type Env,
  isOn,
  needMediaType,
  pick,
  queryNumber,
  question,
  wholeNumber,
} from "./http_requests.ts";
import type { InspectorDoor } from "./inspector_routes.ts";
import { needTree } from "./trees.ts";

const keepAliveMs = 15_000;
const utf8 = new TextEncoder();

export interface JobRoutesOptions {
  readonly gateway: Gateway;
  readonly blobs: Blobs;
  readonly trees: TreeKeeper;
  readonly clock: Clock;
  readonly bodies: Bodies;
  readonly inspector?: Pick<InspectorDoor, "again"> | undefined;
  /** A failure as strangers may read it. */
  readonly told: (thrown: unknown) => FaultData;
}

/** Jobs, what their tasks write, workers, settings. */
export function jobRoutes(
  app: Hono<Env>,
  { gateway, blobs, trees, clock, bodies, inspector, told }: JobRoutesOptions,
): void {
  const answers = blobAnswers(blobs);

  app.post("/v1/jobs", async (c) => {
    const accepted = await gateway.submit(parseJobSpec(await bodies.json(c)));
    c.header("Location", `/v1/jobs/${accepted.jobId}`);
    return c.json(accepted, accepted.existing ? 200 : 201);
  });
  app.get("/v1/jobs", async (c) => {
    const answer = await gateway.ask(question({
      type: "job.list",
      limit: queryNumber(c, "limit") ?? 100,
      ...pick({ state: c.req.query("state"), before: c.req.query("before") }),
    }));
    if (answer.type !== "job.views") throw unexpected(answer);
    return c.json({ jobs: answer.jobs });
  });
  app.get("/v1/jobs/:job", async (c) => {
    const answer = await gateway.ask(
      question({ type: "job.get", jobId: c.req.param("job"), ...pick({ tasksFrom: queryNumber(c, "tasksFrom") }) }),
    );
    if (answer.type !== "job.view") throw unexpected(answer);
    const { type: _, ...view } = answer;
    return c.json(view);
  });
  app.delete("/v1/jobs/:job", async (c) => {
    const reason = c.req.query("reason") ?? "Killed over HTTP";
    await gateway.ask(question({ type: "job.kill", jobId: c.req.param("job"), reason }));
    return c.body(null, 204);
  });
  app.get("/v1/jobs/:job/events", async (c) => {
    const { jobId } = question({ type: "job.get", jobId: c.req.param("job") });
    const view = await gateway.ask({ type: "job.get", jobId });
    if (view.type !== "job.view") throw unexpected(view);
    const afterSeq = wholeNumber("Last-Event-ID", c.req.header("last-event-id") ?? c.req.query("after") ?? "0");
    const stop = new AbortController();
    const changes = gateway.watch(jobId, { afterSeq, signal: stop.signal })[Symbol.asyncIterator]();
    // Browsers come back for ever unless they are told that there is no more.
    const first = view.job.state !== "running" && afterSeq > 0 ? await changes.next() : undefined;
    if (first?.done) return c.body(null, 204);
    return c.body(serverSentEvents(changes, first, stop), 200, {
      "Content-Type": "text/event-stream",
      "X-Accel-Buffering": "no",
    });
  });

  const serverSentEvents = (
    changes: AsyncIterator<Change>,
    first: IteratorResult<Change> | undefined,
    stop: AbortController,
  ): ReadableStream<Uint8Array> => {
    let cancelBeat = (): void => {};
    let held = first;
    return new ReadableStream<Uint8Array>({
      start(controller) {
        const beat = (): void => {
          if ((controller.desiredSize ?? 0) > 0) controller.enqueue(utf8.encode(": still here\n\n"));
          cancelBeat = clock.at(clock.now() + keepAliveMs, beat);
        };
        // At once too, so that the headers leave before the first change.
        beat();
      },
      async pull(controller) {
        const finish = (text: string): void => {
          cancelBeat();
          controller.enqueue(utf8.encode(text));
          controller.close();
        };
        try {
          const next = held ?? await changes.next();
          held = undefined;
          if (next.done) return finish("event: end\ndata: {}\n\n");
          const { kind, seq, ...change } = next.value;
          controller.enqueue(
            utf8.encode(`id: ${seq}\nevent: ${kind}\ndata: ${JSON.stringify({ seq, ...change })}\n\n`),
          );
        } catch (thrown) {
          if (!stop.signal.aborted) finish(`event: fault\ndata: ${JSON.stringify(told(thrown))}\n\n`);
        }
      },
      cancel() {
        cancelBeat();
        stop.abort();
      },
    });
  };

  app.get("/v1/jobs/:job/tasks/:task/:stream{stdout|stderr}", async (c) => {
    const stream = c.req.param("stream") as "stdout" | "stderr";
    const offset = queryNumber(c, "offset") ?? 0;
    const taskId = `${c.req.param("job")}/${c.req.param("task")}` as TaskId;
    parseFromClient({ sentAtMs: 0, body: { type: "output.follow", follow: 1, taskId, stream, offset } });
    const headers = { "Content-Type": "text/plain; charset=utf-8", ...sandbox };
    if (isOn(c.req.query("follow"))) {
      const stop = new AbortController();
      const pieces = gateway.follow({ taskId, stream, offset }, stop.signal);
      return c.body(streamOf(chunksOf(pieces), () => stop.abort()), 200, headers);
    }
    const index = Number(c.req.param("task"));
    const answer = await gateway.ask({ type: "job.get", jobId: jobOfTask(taskId), tasksFrom: index });
    if (answer.type !== "job.view") throw unexpected(answer);
    const task = answer.tasks[0];
    if (task?.taskId !== taskId) {
      throw new Fault("TASK_UNKNOWN", `Cannot find task ${taskId}: its job has ${answer.job.tasks}`);
    }
    if (task.outcome === undefined) {
      throw new Fault(
        "OUTPUT_MISSING",
        `Cannot give the ${stream} of task ${taskId} as it is kept when the task has settled: it is ${task.state}. Ask with follow=1`,
      );
    }
    const kept = task.outcome.kind === "skipped" ? undefined : task.outcome[stream];
    if (kept === undefined) return c.body("", 200, headers);
    const from = Math.min(offset, sizeOf(kept.digest));
    return await answers.part(c, kept.digest, { from, to: sizeOf(kept.digest) }, 200, {
      ...headers,
      "X-Truncated-Bytes": String(kept.truncatedBytes),
    });
  });

  app.get("/v1/jobs/:job/export", async (c) => {
    const { jobId } = question({ type: "job.get", jobId: c.req.param("job") });
    const chunks = gateway.exportJob(jobId)[Symbol.asyncIterator]();
    const first = await chunks.next(); // what cannot be exported is told with a status
    return c.body(streamOf(startingWith(first, chunks), () => void chunks.return?.()), 200, {
      "Content-Type": "application/octet-stream",
      "Content-Disposition": `attachment; filename="${jobId}.scootjob"`,
    });
  });
  app.post("/v1/jobs/:job/rerun", async (c, next) => {
    if (inspector === undefined) return await next();
    const { jobId } = question({ type: "job.get", jobId: c.req.param("job") });
    const key = parse(encodedJob.entries.key, "the key of a job", c.req.query("key") ?? `rerun/${randomHex(16)}`);
    const job = await inspector.again({ jobId, key, ...pick({ place: queryNumber(c, "task") }) });
    await needMadeOf(job);
    const accepted = await gateway.accept(job);
    c.header("Location", `/v1/jobs/${accepted.jobId}`);
    return c.json(accepted, accepted.existing ? 200 : 201);
  });
  /** What an old job is made of may have been collected. */
  const needMadeOf = async ({ tasks }: EncodedJob): Promise<void> => {
    const needed = new Map<Digest, string>();
    for (const { name, input } of tasks) {
      const parts = input.kind === "mounted" ? input.parts : [input];
      for (const part of parts) if ("snapshot" in part) needed.set(part.snapshot, name);
    }
    for (const [snapshot, name] of needed) {
      if (snapshot !== emptyDigest) await needTree(trees, snapshot, `run task "${name}" again as its input`);
    }
    const [missing] = await blobs.missing(new Set(tasks.map(({ command }) => command)));
    if (missing !== undefined) throw blobMissing(missing);
  };
  app.post("/v1/jobs/import", async (c) => {
    needMediaType(c, "application/octet-stream");
    const imported = await gateway.importJob(bodies.read(c));
    c.header("Location", `/v1/jobs/${imported.jobId}`);
    return c.json(imported, imported.existing ? 200 : 201);
  });

  app.get("/v1/jobs/:job/why", async (c) => {
    const atMs = queryNumber(c, "at");
    const answer = await gateway.ask(
      question({ type: "job.why", jobId: c.req.param("job"), ...(atMs === undefined ? {} : { atMs }) }),
    );
    if (answer.type !== "job.why") throw unexpected(answer);
    const { type: _type, ...why } = answer;
    return c.json(why);
  });
  app.get("/v1/settings", async (c) => {
    const answer = await gateway.ask({ type: "settings.get" });
    if (answer.type !== "settings.view") throw unexpected(answer);
    return c.json(answer.settings);
  });
  app.put("/v1/settings", async (c) => {
    const settings = parseSettings(await bodies.json(c));
    await gateway.ask({ type: "settings.set", settings, reason: c.req.query("reason") ?? "" });
    return c.body(null, 204);
  });
  app.post("/v1/workers/:worker/:change{offline|reinstate}", async (c) => {
    const type = `worker.${c.req.param("change") as "offline" | "reinstate"}` as const;
    await gateway.ask(question({ type, workerId: c.req.param("worker"), reason: c.req.query("reason") ?? "" }));
    return c.body(null, 204);
  });

  app.get("/v1/workers", async (c) => {
    const answer = await gateway.ask({ type: "worker.list" });
    if (answer.type !== "worker.views") throw unexpected(answer);
    return c.json({ workers: answer.workers });
  });
  app.get("/v1/cluster", async (c) => {
    const answer = await gateway.ask({ type: "cluster.get" });
    if (answer.type !== "cluster.view") throw unexpected(answer);
    return c.json(answer.cluster);
  });
}

async function* chunksOf(pieces: ReturnType<Gateway["follow"]>): AsyncGenerator<Uint8Array> {
  for await (const piece of pieces) if (piece.kind === "chunk") yield piece.bytes;
}
