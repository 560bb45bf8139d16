import * as v from "valibot";
import { Fault } from "../domain/fault.ts";
import type { Address } from "../domain/ids.ts";
import { jobId, parse, taskId, workerId } from "../protocol/schema.ts";
import { type Clock, sleep } from "../runtime/clock.ts";
import type { States } from "../snapshots/states/states.ts";
import { actorList, actorPage, historyPage, stepsMax } from "./actors.ts";
import { charts } from "./charts.ts";
import { conversation, membersMax } from "./conversation.ts";
import { type InspectorFile, inspectorFile } from "./files.ts";
import { jobList, jobPage } from "./jobs.ts";
import { boundsOf, findMoment } from "./moments.ts";
import { overview } from "./overview.ts";
import { type Timeline, timeline } from "./timeline.ts";

/** What a cluster's recorded states say, for the page in the browser. It reads, and changes nothing. */
export interface Inspector {
  /**
   * Answers `GET /v1/inspect/<path>`, as docs/http.md tells.
   *
   * @throws {Fault} `REQUEST_INVALID`, `JOB_UNKNOWN`, `ACTOR_UNKNOWN`, `ROUTE_UNKNOWN`.
   */
  answer(path: string, query: URLSearchParams): Promise<unknown>;
  /** A file of the page; undefined when there is none of that name. They hold no data: whoever asks may have them. */
  file(name: string): Promise<InspectorFile | undefined>;
  close(): void;
}

export interface InspectorOptions {
  /** The states of the scheduler, which may be a second behind it; undefined where they cannot be read. */
  readonly states: () => Promise<States | undefined>;
  readonly clock: Clock;
}

const limitMax = 500;
/** How long an answer waits for counts that are being made. */
const countMsMax = 500;
const moment = v.optional(
  v.pipe(v.string(), v.regex(/^[0-9]{1,15}$/, "must be a whole number"), v.transform(Number)),
);
const text = v.optional(v.pipe(v.string(), v.maxLength(200, "must have at most 200 characters")));
const limit = (ordinary: number, most: number) =>
  v.optional(
    v.pipe(
      v.string(),
      v.regex(/^[0-9]{1,6}$/, "must be a whole number"),
      v.transform(Number),
      v.minValue(1, "must be at least 1"),
      v.maxValue(most, `must be at most ${most}`),
    ),
    String(ordinary),
  );
const address = v.custom<Address>((input) => {
  if (typeof input !== "string") return false;
  const [kind, name] = [input.slice(0, input.indexOf("/")), input.slice(input.indexOf("/") + 1)];
  if (input === "scheduler") return true;
  if (kind === "job") return v.is(jobId, name);
  if (kind === "task") return v.is(taskId, name);
  return (kind === "worker" || kind === "member") && v.is(workerId, name);
}, "must be an address such as scheduler, job/ID, task/ID/0, worker/w1 or member/w1");
const at = { at: moment, atMs: moment };

const queries = {
  bounds: v.strictObject({}),
  charts: v.strictObject({}),
  overview: v.strictObject({ ...at }),
  jobs: v.strictObject({
    ...at,
    state: v.optional(v.picklist(["running", "succeeded", "failed", "cancelled"])),
    text,
    before: v.optional(jobId),
    limit: limit(50, limitMax),
  }),
  job: v.strictObject({ ...at, id: jobId, from: moment }),
  actors: v.strictObject({
    ...at,
    kind: v.picklist(["scheduler", "job", "task", "worker"]),
    job: v.optional(jobId),
    state: text,
    requestor: text,
    after: v.optional(address),
    limit: limit(100, limitMax),
  }),
  actor: v.strictObject({ ...at, address }),
  history: v.strictObject({ ...at, address, limit: limit(50, stepsMax) }),
} as const;
const conversationQuery = v.strictObject({
  ...at,
  with: v.pipe(v.array(address), v.minLength(1), v.maxLength(membersMax)),
  limit: limit(100, limitMax),
});

export function createInspector({ states, clock }: InspectorOptions): Inspector {
  let counted: { readonly states: States; readonly timeline: Timeline } | undefined;

  async function readable(): Promise<States> {
    const found = await states();
    if (found !== undefined) return found;
    throw new Fault(
      "REQUEST_INVALID",
      "Cannot show the cluster's states as this gateway must share its data folder with the scheduler: it does not. Ask a gateway on the scheduler's machine, started with the same --data",
    );
  }
  const countsOf = (found: States): Timeline => {
    if (counted?.states !== found) {
      counted?.timeline.close();
      counted = { states: found, timeline: timeline({ states: found, clock }) };
    }
    return counted.timeline;
  };

  /** What does not come soon goes on, and is there for who asks again. */
  async function soon<T>(work: Promise<T>): Promise<T | undefined> {
    const enough = new AbortController();
    work.then(() => enough.abort(), () => enough.abort());
    await sleep(clock, countMsMax, enough.signal).catch(() => undefined);
    return enough.signal.aborted ? await work : undefined;
  }

  return {
    async answer(path, query) {
      const asked = <Schema extends v.GenericSchema>(schema: Schema): v.InferOutput<Schema> =>
        parse(schema, `what ${path} is asked with`, Object.fromEntries(query));
      const found = await readable();
      switch (path) {
        case "charts":
          asked(queries.charts);
          return charts;
        case "bounds":
          asked(queries.bounds);
          return await boundsOf(found);
        case "overview": {
          const { at: seq, atMs } = asked(queries.overview);
          const when = await findMoment(found, { seq, atMs });
          return { moment: when, ...await overview(found, when.seq, await soon(countsOf(found).at(when.seq))) };
        }
        case "jobs": {
          const { at: seq, atMs, state, text, before, limit } = asked(queries.jobs);
          const when = await findMoment(found, { seq, atMs });
          return { moment: when, ...await jobList(found, when.seq, { state, text }, { before, limit }) };
        }
        case "job": {
          const { at: seq, atMs, id, from } = asked(queries.job);
          const when = await findMoment(found, { seq, atMs });
          return { moment: when, ...await jobPage(found, id, when.seq, from ?? 0) };
        }
        case "actors": {
          const { at: seq, atMs, kind, job, state, requestor, after, limit } = asked(queries.actors);
          const when = await findMoment(found, { seq, atMs });
          const filter = { kind, within: kind === "task" ? job : undefined, state, requestor };
          return { moment: when, ...await actorList(found, when.seq, filter, { after, limit }) };
        }
        case "actor": {
          const { at: seq, atMs, address } = asked(queries.actor);
          const when = await findMoment(found, { seq, atMs });
          return { moment: when, ...await actorPage(found, address, when.seq) };
        }
        case "history": {
          const { at: seq, atMs, address, limit } = asked(queries.history);
          const when = await findMoment(found, { seq, atMs });
          return { moment: when, ...await historyPage(found, address, when.seq, limit) };
        }
        case "conversation": {
          const { with: members, at: seq, atMs, limit } = parse(
            conversationQuery,
            `what ${path} is asked with`,
            { ...Object.fromEntries(query), with: query.getAll("with") },
          );
          const when = await findMoment(found, { seq, atMs });
          return { moment: when, ...await conversation(found, [...new Set(members)], when.seq, limit) };
        }
        default:
          throw new Fault("ROUTE_UNKNOWN", `Cannot answer /v1/inspect/${path.slice(0, 100)}: there is nothing`);
      }
    },
    file: inspectorFile,
    close: () => counted?.timeline.close(),
  };
}
