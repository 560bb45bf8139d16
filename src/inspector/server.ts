import * as v from "valibot";
import { Fault } from "../domain/fault.ts";
import type { Address, TaskId } from "../domain/ids.ts";
import { digest, jobId, parse, taskId, workerId } from "../protocol/schema.ts";
import { productVersion } from "../protocol/version.ts";
import { type Clock, sleep } from "../runtime/clock.ts";
import type { ActionCache } from "../snapshots/actions/actions.ts";
import type { Blobs } from "../snapshots/blobs/blobs.ts";
import type { States } from "../snapshots/states/states.ts";
import { actionStory } from "./action.ts";
import { actorList, actorPage, historyPage, stepsMax } from "./actors.ts";
import { charts } from "./charts.ts";
import { conversation, membersMax } from "./conversation.ts";
import { jobFacts } from "./facts.ts";
import { createFeed } from "./feed.ts";
import { type InspectorFile, inspectorFile } from "./files.ts";
import { taskGraph } from "./graph.ts";
import { home } from "./home.ts";
import { jobList, jobPage } from "./jobs.ts";
import { boundsOf, findMoment, type Moment, nearestMoment } from "./moments.ts";
import { keptStream, lineReader, needTask } from "./output.ts";
import { overview } from "./overview.ts";
import { ratesOf } from "./rates.ts";
import { again } from "./rerun.ts";
import type { News, Routes, Session } from "./routes.ts";
import { commandTexts, search } from "./search.ts";
import { taskTimeline } from "./spans.ts";
import { standingOf } from "./standing.ts";
import { type Timeline, timeline } from "./timeline.ts";
import { treeDiff, treePage } from "./trees.ts";

/** What a cluster's recorded states say, for the page in the browser. It reads, and changes nothing. */
export interface Inspector {
  /**
   * Answers `GET /v1/inspect/<path>`, as docs/http.md tells.
   *
   * @param who whether the one who asks may look and no more; he may not by default. `signal`: he has gone.
   * @throws {Fault} `REQUEST_INVALID`, `ROUTE_UNKNOWN`, and of what is asked for: `JOB_UNKNOWN`, `TASK_UNKNOWN`,
   *   `ACTOR_UNKNOWN`, `SNAPSHOT_UNKNOWN`, `PATH_UNKNOWN`, `PATH_INVALID`, `OUTPUT_MISSING`, `BLOB_MISSING`.
   */
  answer(path: string, query: URLSearchParams, who?: Asker): Promise<unknown>;
  /**
   * Answers `GET /v1/inspect/feed`, as docs/http.md tells: when something has changed, or after a while.
   *
   * @throws {Fault} `REQUEST_INVALID`, `LIMIT_EXCEEDED`.
   */
  news(query: URLSearchParams, signal: AbortSignal): Promise<News>;
  /** A job once more, or one task of it: see {@link again}. */
  again(asked: Parameters<typeof again>[1]): ReturnType<typeof again>;
  /** A file of the page; undefined when there is none of that name. They hold no data: whoever asks may have them. */
  file(name: string): Promise<InspectorFile | undefined>;
  close(): void;
}

export interface Asker {
  readonly isReadOnly: boolean;
  readonly signal?: AbortSignal;
}

export interface InspectorOptions {
  /** The states of the scheduler, which may be a second behind it; undefined where they cannot be read. */
  readonly states: () => Promise<States | undefined>;
  readonly clock: Clock;
  readonly blobs: Blobs;
  /** Absent: nothing is known of results that are kept. */
  readonly actions?: ActionCache;
  /** A job's file is shown, and no cluster: everybody may look, and no more. */
  readonly isSealed?: boolean;
}

const limitMax = 500;
/** Between two trees, that one can go through. */
const changesMax = 100_000;
/** How long an answer waits for counts that are being made. */
const countMsMax = 500;
/** The same of home, which has more to tell. */
const standingMsMax = 100;
const number = v.pipe(v.string(), v.regex(/^[0-9]{1,15}$/, "must be a whole number"), v.transform(Number));
const moment = v.optional(number);
const from = v.optional(number, "0");
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
const sought = v.pipe(
  v.string(),
  v.minLength(1, "must not be empty"),
  v.maxLength(200, "must have at most 200 characters"),
  v.regex(/^[^\n\r]*$/, "must be of one line"),
);
const stream = v.picklist(["stdout", "stderr"]);
const jobState = v.optional(v.picklist(["running", "succeeded", "failed", "cancelled"]));
const dayMs = 24 * 3_600_000;

const queries = {
  session: v.strictObject({}),
  bounds: v.strictObject({}),
  charts: v.strictObject({}),
  moment: v.strictObject({ ...at }),
  home: v.strictObject({ ...at, state: jobState, before: v.optional(jobId), limit: limit(50, 200) }),
  search: v.strictObject({ ...at, text: sought, before: v.optional(jobId), limit: limit(50, 200) }),
  overview: v.strictObject({ ...at }),
  rates: v.strictObject({
    ...at,
    spanMs: v.optional(
      v.pipe(number, v.minValue(1, "must be at least 1"), v.maxValue(dayMs, `must be at most ${dayMs}`)),
      "600000",
    ),
    points: limit(60, 240),
  }),
  jobs: v.strictObject({
    ...at,
    state: jobState,
    text,
    requestor: text,
    before: v.optional(jobId),
    limit: limit(50, limitMax),
  }),
  job: v.strictObject({ ...at, id: jobId, from }),
  graph: v.strictObject({ ...at, id: jobId }),
  timeline: v.strictObject({ ...at, id: jobId, from }),
  output: v.strictObject({ ...at, task: taskId, stream, line: from, lines: limit(500, 2_000) }),
  find: v.strictObject({ ...at, task: taskId, stream, text: sought, line: from, limit: limit(100, 500) }),
  action: v.strictObject({ ...at, task: taskId }),
  tree: v.strictObject({
    snapshot: digest,
    path: v.optional(v.pipe(v.string(), v.maxLength(4_096, "must have at most 4096 characters")), ""),
    from,
    limit: limit(500, 2_000),
  }),
  diff: v.strictObject({
    before: digest,
    after: digest,
    // What is passed over is read all the same.
    from: v.optional(v.pipe(number, v.maxValue(changesMax, `must be at most ${changesMax}`)), "0"),
    limit: limit(500, 2_000),
  }),
  actors: v.strictObject({
    ...at,
    kind: v.picklist(["scheduler", "job", "task", "worker"]),
    job: v.optional(jobId),
    state: text,
    requestor: text,
    label: text,
    after: v.optional(address),
    limit: limit(100, limitMax),
  }),
  actor: v.strictObject({ ...at, address }),
  history: v.strictObject({ ...at, address, limit: limit(50, stepsMax) }),
  conversation: v.strictObject({
    ...at,
    with: v.pipe(v.array(address), v.minLength(1), v.maxLength(membersMax)),
    limit: limit(100, limitMax),
  }),
} as const;

const feedQuery = v.strictObject({
  watch: v.pipe(
    v.array(v.pipe(v.string(), v.regex(/^[ -~]{0,255}$/, "must be an address, or the beginning of addresses"))),
    v.minLength(1, "must be given"),
    v.maxLength(32, "must be given at most 32 times"),
  ),
  after: number,
});

type Answers = {
  readonly [Name in keyof Routes]: (
    query: Readonly<Record<string, unknown>>,
    who: Asker,
  ) => Promise<Routes[Name]["answer"]>;
};

export function createInspector({ states, clock, blobs, actions, isSealed = false }: InspectorOptions): Inspector {
  let counted: { readonly states: States; readonly timeline: Timeline } | undefined;
  const facts = jobFacts();
  const commands = commandTexts(blobs);
  const lines = lineReader(blobs);
  const feed = createFeed({ states: () => readable(), clock });

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
  async function soon<T>(work: Promise<T>, msMax = countMsMax): Promise<T | undefined> {
    const enough = new AbortController();
    work.then(() => enough.abort(), () => enough.abort());
    await sleep(clock, msMax, enough.signal).catch(() => undefined);
    return enough.signal.aborted ? await work : undefined;
  }

  type Wanted = { readonly at?: number | undefined; readonly atMs?: number | undefined };
  const asked = <Name extends keyof typeof queries>(
    name: Name,
    query: Readonly<Record<string, unknown>>,
  ): v.InferOutput<typeof queries[Name]> =>
    parse(queries[name] as v.GenericSchema, `what ${name} is asked with`, query) as v.InferOutput<typeof queries[Name]>;
  /** The states, and the moment that is meant. */
  const when = async ({ at, atMs }: Wanted): Promise<readonly [States, Moment]> => {
    const found = await readable();
    return [found, await findMoment(found, { seq: at, atMs })];
  };
  /** Up to when what goes on has gone on. */
  const nowOf = ({ at, atMs }: Wanted, moment: Moment): number => {
    const nowMs = Math.max(clock.now(), moment.atMs);
    return Math.min(nowMs, atMs ?? (at === undefined && !isSealed ? nowMs : moment.atMs));
  };

  const answers: Answers = {
    session(query, { isReadOnly }) {
      asked("session", query);
      const session: Session = { isReadOnly: isReadOnly || isSealed, isSealed, version: productVersion };
      return Promise.resolve(session);
    },
    async bounds(query) {
      asked("bounds", query);
      return await boundsOf(await readable());
    },
    async moment(query) {
      const { at, atMs } = asked("moment", query);
      return await nearestMoment(await readable(), { seq: at, atMs });
    },
    charts(query) {
      asked("charts", query);
      return Promise.resolve(charts);
    },
    async home(query) {
      const given = asked("home", query);
      const [found, moment] = await when(given);
      const nowMs = nowOf(given, moment);
      const standing = async (): Promise<string | undefined> => {
        const counts = await soon(countsOf(found).heldAt(moment.seq), standingMsMax);
        return counts === undefined ? undefined : await standingOf(found, moment.seq, nowMs, counts);
      };
      return { moment, ...await home(found, facts, moment.seq, { ...given, nowMs, standing }) };
    },
    async search(query) {
      const given = asked("search", query);
      const [found, moment] = await when(given);
      const { text, before, limit } = given;
      return { moment, ...await search({ states: found, commands, clock, seq: moment.seq, text, before, limit }) };
    },
    async overview(query) {
      const [found, moment] = await when(asked("overview", query));
      return { moment, ...await overview(found, moment.seq, await soon(countsOf(found).at(moment.seq))) };
    },
    async rates(query) {
      const given = asked("rates", query);
      const [found, moment] = await when(given);
      const { spanMs, points } = given;
      const toMs = nowOf(given, moment);
      const held = await soon(countsOf(found).steps(moment.seq));
      if (held === undefined) {
        const none = { count: 0, p50Ms: 0, p95Ms: 0 };
        return { moment, isCounted: false, stepMs: Math.ceil(spanMs / points), points: [], wait: none, run: none };
      }
      return { moment, isCounted: true, ...ratesOf(held.start, held.steps, { toMs, spanMs, points }) };
    },
    async jobs(query) {
      const given = asked("jobs", query);
      const [found, moment] = await when(given);
      return { moment, ...await jobList(found, moment.seq, given, given) };
    },
    async job(query) {
      const given = asked("job", query);
      const [found, moment] = await when(given);
      return { moment, ...await jobPage(found, facts, given.id, moment.seq, given.from, nowOf(given, moment)) };
    },
    async graph(query) {
      const given = asked("graph", query);
      const [found, moment] = await when(given);
      return { moment, ...await taskGraph(found, given.id, moment.seq) };
    },
    async timeline(query) {
      const given = asked("timeline", query);
      const [found, moment] = await when(given);
      return { moment, ...await taskTimeline(found, given.id, moment.seq, given.from, nowOf(given, moment)) };
    },
    async actors(query) {
      const given = asked("actors", query);
      const [found, moment] = await when(given);
      const filter = { ...given, within: given.kind === "task" ? given.job : undefined };
      return { moment, ...await actorList(found, moment.seq, filter, given) };
    },
    async actor(query) {
      const given = asked("actor", query);
      const [found, moment] = await when(given);
      return { moment, ...await actorPage(found, given.address, moment.seq) };
    },
    async history(query) {
      const given = asked("history", query);
      const [found, moment] = await when(given);
      return { moment, ...await historyPage(found, given.address, moment.seq, given.limit) };
    },
    async conversation(query) {
      const given = asked("conversation", query);
      const [found, moment] = await when(given);
      return { moment, ...await conversation(found, [...new Set(given.with)], moment.seq, given.limit) };
    },
    async output(query) {
      const { task, stream, line, lines: limit, ...given } = asked("output", query);
      const [found, moment] = await when(given);
      const kept = await keptStream(found, task as TaskId, stream, moment.seq);
      if (kept === undefined) return { moment, bytes: 0, lines: 0, truncatedBytes: 0, line: 0, text: [] };
      return { moment, ...await lines.page(kept, line, limit) };
    },
    async find(query) {
      const { task, stream, text, line, limit, ...given } = asked("find", query);
      const [found, moment] = await when(given);
      const kept = await keptStream(found, task as TaskId, stream, moment.seq);
      return { moment, ...kept === undefined ? { hits: [] } : await lines.find(kept, text, line, limit) };
    },
    async action(query) {
      const given = asked("action", query);
      const [found, moment] = await when(given);
      const task = await needTask(found, given.task as TaskId, moment.seq);
      return { moment, ...await actionStory(task, { blobs, actions }) };
    },
    async tree(query) {
      const { snapshot, path, from, limit } = asked("tree", query);
      return await treePage(blobs, snapshot, path, { from, limit });
    },
    async diff(query, { signal }) {
      const { before, after, from, limit } = asked("diff", query);
      return await treeDiff(blobs, before, after, { from, limit, clock, signal });
    },
  };

  return {
    async answer(path, query, who = { isReadOnly: false }) {
      if (!Object.hasOwn(answers, path)) {
        throw new Fault("ROUTE_UNKNOWN", `Cannot answer /v1/inspect/${path.slice(0, 100)}: there is nothing`);
      }
      const many = path === "conversation" ? { with: query.getAll("with") } : {};
      return await answers[path as keyof Answers]({ ...Object.fromEntries(query), ...many }, who);
    },
    async news(query, signal) {
      const { watch, after } = parse(feedQuery, "what feed is asked with", {
        ...Object.fromEntries(query),
        watch: query.getAll("watch"),
      });
      return await feed.news([...new Set(watch)], after, signal);
    },
    again: async (wanted) => await again(await readable(), wanted),
    file: inspectorFile,
    close() {
      feed.close();
      counted?.timeline.close();
    },
  };
}
