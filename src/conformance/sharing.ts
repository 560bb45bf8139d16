import { randomUUID } from "node:crypto";
import type { Timestamp } from "../domain/action_result.ts";
import { stages } from "../protocol/reapi/messages.ts";
import { methods } from "../protocol/reapi/services.ts";
import { asBuild, begin, type Begun, endOf, type Executed, metadataOf, prepare, resultOf, stdoutOf } from "./asked.ts";
import { expectIsOneOf, expectThat, NotOffered, type ProbeClient, sleep, statusOf } from "./client.ts";
import type { Capabilities, Check } from "./run.ts";

/** Says something else each time it runs. */
const once = "cat /proc/sys/kernel/random/uuid; date +%s%N";
const blockerSeconds = 15;
/** An action that has not begun by then waits for a slot; or by four times as long as others took, where all is slow. */
const beginsWithinMs = 4_000;
const beginsWithinMsMax = 8_000;
const blockersMax = 32;

/** Starts as many actions as run at a time, so that the next ones queue. @returns how many, until when, and their ends. */
async function fill(
  client: ProbeClient,
): Promise<{ readonly slots: number; readonly untilMs: number; readonly ended: Promise<unknown> }> {
  const blockers = await Promise.all(
    Array.from({ length: blockersMax }, () => prepare(client, { script: `sleep ${blockerSeconds}` })),
  );
  const untilMs = performance.now() + blockerSeconds * 1_000;
  const ends: Promise<unknown>[] = [];
  let slowestMs = 0;
  for (const [slots, action] of blockers.entries()) {
    const askedAtMs = performance.now();
    const blocker = await begin(client, action);
    const isRunning = async (): Promise<boolean> => {
      if (metadataOf(blocker.first).stage === stages.executing) return true;
      // Not by a loop that is left: that would end the stream, as a client does that leaves.
      for (;;) {
        const { done, value } = await blocker.answers.next();
        if (done) return false;
        if (metadataOf(value).stage === stages.executing) return true;
      }
    };
    const waitMs = Math.min(Math.max(beginsWithinMs, 4 * slowestMs), beginsWithinMsMax);
    const ran = await Promise.race([isRunning().catch(() => false), sleep(waitMs).then(() => false)]);
    slowestMs = Math.max(slowestMs, performance.now() - askedAtMs);
    if (!ran) {
      blocker.answers.cancel();
      await statusOf(client.unary(methods.cancelOperation, { name: blocker.name }));
      if (slots === 0) throw new NotOffered("its workers are busy");
      return { slots, untilMs, ended: Promise.allSettled(ends) };
    }
    const { answers } = blocker;
    ends.push((async () => {
      for await (const _each of answers);
    })());
  }
  await Promise.allSettled(ends);
  throw new NotOffered(`it runs ${blockersMax} actions at a time or more`);
}

const msOf = (at: Timestamp | undefined): number => at === undefined ? 0 : at.seconds * 1e3 + at.nanos / 1e6;
const startOf = ({ response }: Executed): number => {
  const at = resultOf(response).execution?.executionStartedAt;
  expectThat(at !== undefined, "it does not say when the action began");
  return msOf(at);
};

const manyOthers = 12;

/** When some actions began that were queued behind many others of one build, while every slot was taken. */
interface Queues {
  readonly slots: number;
  /** Of those others. */
  readonly startsMs: readonly number[];
  /** Of one with the most urgent priority, and of one that somebody more urgent came to share; where it has priorities. */
  readonly urgentMs: number | undefined;
  readonly sharedMs: number | undefined;
  /** Of one of another build. */
  readonly otherBuildMs: number;
}

/** It takes a while, and tells of several lines at once. */
const queuesOf = new WeakMap<ProbeClient, Promise<Queues>>();

function queues(client: ProbeClient, capabilities: Capabilities): Promise<Queues> {
  let known = queuesOf.get(client);
  if (known === undefined) {
    known = tellQueues(client, mostUrgent(capabilities));
    queuesOf.set(client, known);
  }
  return known;
}

/** A server that has much else to do may be slow to take all slots: then nothing can be told, and it is tried again. */
async function tellQueues(client: ProbeClient, urgent: number): Promise<Queues> {
  const triesMax = 3;
  for (let tries = 1; tries <= triesMax; tries++) {
    const found = await fillAndQueue(client, urgent);
    // Of one slot it cannot be told whether others are only slow.
    if (found !== undefined && (found.slots > 1 || tries === triesMax)) return found;
  }
  throw new NotOffered("a slot was free again before all were queued: nothing can be told");
}

/** @returns undefined when slots were free before all were queued. */
async function fillAndQueue(client: ProbeClient, urgent: number): Promise<Queues | undefined> {
  const script = "sleep 0.3";
  const others = await Promise.all(Array.from({ length: manyOthers }, () => prepare(client, { script })));
  const [first, shared, ofOther] = await Promise.all([1, 2, 3].map(() => prepare(client, { script })));
  const { slots, untilMs, ended } = await fill(client);
  const headers = asBuild(randomUUID());
  const begun: Begun[] = [];
  for (const action of others) begun.push(await begin(client, action, { priority: 0, headers }));
  const own: Begun[] = [await begin(client, ofOther!, { priority: 0, headers: asBuild(randomUUID()) })];
  if (urgent !== 0) {
    for (const [action, priority] of [[first, urgent], [shared, 0], [shared, urgent]] as const) {
      own.push(await begin(client, action!, { priority, headers }));
    }
  }
  const isLate = performance.now() >= untilMs;
  await ended;
  const startsMs = (await Promise.all(begun.map((each) => each.end()))).map(startOf);
  const owns = await Promise.all(own.map((each) => each.end()));
  const [otherBuildMs, urgentMs, ...sharedMs] = owns.map(startOf);
  const queuedMs = Math.max(...owns.map(({ response }) => msOf(resultOf(response).execution?.queuedAt)));
  if (isLate || startsMs.some((start) => start < queuedMs)) return undefined;
  return {
    slots,
    startsMs,
    urgentMs,
    sharedMs: urgent === 0 ? undefined : Math.min(...sharedMs),
    otherBuildMs: otherBuildMs!,
  };
}

const earlierThan = ({ startsMs }: Queues, ms: number): number => startsMs.filter((start) => start < ms).length;

/** @throws when it waited for more than what began at once when slots were free. */
function expectSoon(found: Queues, startMs: number | undefined): void {
  if (startMs === undefined) throw new NotOffered("it has no priority before 0");
  const { slots, startsMs: { length: of } } = found;
  const earlier = earlierThan(found, startMs);
  expectThat(earlier <= Math.min(slots, of - 1), `${earlier} of ${of} were before it, on ${slots} slots`);
}

/** 0 where it has no priorities. */
function mostUrgent({ executionCapabilities }: Capabilities): number {
  const ranges = executionCapabilities?.executionPriorityCapabilities?.priorities ?? [];
  return Math.min(0, ...ranges.map(({ minPriority }) => minPriority));
}

/** Part 13: who shares, who is first, and who has left. */
export const checks: readonly Check[] = [
  {
    id: "M-1",
    says: "what is identical and runs is run once",
    needs: "execution",
    async holds(client) {
      const action = await prepare(client, { script: `sleep 2; ${once}` });
      const running = await Promise.all([1, 2, 3].map(() => begin(client, action)));
      const ends = await Promise.all(running.map((each) => each.end()));
      const said = await Promise.all(ends.map(({ response }) => stdoutOf(client, resultOf(response))));
      expectThat(new Set(said).size === 1, `it ran ${new Set(said).size} times`);
    },
  },
  {
    id: "M-1",
    says: "what must not be cached is not shared either",
    needs: "execution",
    async holds(client) {
      const action = await prepare(client, { script: `sleep 1; ${once}`, doNotCache: true });
      const running = await Promise.all([1, 2].map(() => begin(client, action)));
      const ends = await Promise.all(running.map((each) => each.end()));
      const said = await Promise.all(ends.map(({ response }) => stdoutOf(client, resultOf(response))));
      expectThat(new Set(said).size === 2, "it ran once");
    },
  },
  {
    id: "M-2",
    says: "what is shared has the most urgent priority of those who wait for it",
    needs: "execution",
    async holds(client, capabilities) {
      const found = await queues(client, capabilities);
      expectSoon(found, found.sharedMs);
    },
  },
  {
    id: "M-3",
    says: "who cancels takes back an own share alone",
    needs: "execution",
    async holds(client) {
      const action = await prepare(client, { script: `sleep 2; ${once}` });
      const [one, other] = await Promise.all([begin(client, action), begin(client, action)]);
      const { code } = await statusOf(client.unary(methods.cancelOperation, { name: one.name }));
      if (code === 12) throw new NotOffered("it has no CancelOperation");
      expectIsOneOf(code, ["OK"]);
      expectThat(resultOf((await other.end()).response).exitCode === 0, "the other is ended too");
      if (one.name !== other.name) {
        expectIsOneOf((await one.end()).response.status?.code ?? 0, ["CANCELLED"], "the one is");
      } else one.answers.cancel();
    },
  },
  {
    id: "M-3",
    says: "who leaves may come back, and then the action has gone on",
    needs: "execution",
    async holds(client) {
      const running = await begin(client, await prepare(client, { script: "sleep 4; exit 5" }));
      running.answers.cancel();
      await sleep(2_000);
      const { response } = endOf(await client.stream(methods.waitExecution, { name: running.name }));
      expectThat(resultOf(response).exitCode === 5, "it ended otherwise");
    },
  },
  {
    id: "M-4",
    says: "what nobody waits for any more is ended after a while",
    needs: "execution",
    isSlow: true,
    async holds(client) {
      const running = await begin(client, await prepare(client, { script: "sleep 3600" }));
      running.answers.cancel();
      for (const afterMs of [30_000, 60_000]) {
        await sleep(afterMs); // each look may be taken for the client that is back
        const { code } = await statusOf(client.unary(methods.getOperation, { name: running.name }));
        if (code === 12) throw new NotOffered("it has no Operations to see it by");
        if (code === 5 || (await client.unary(methods.getOperation, { name: running.name })).done) return;
      }
      throw new Error("it goes on for a minute and a half");
    },
  },
  {
    id: "M-6",
    says: "the lower the number, the sooner",
    needs: "execution",
    async holds(client, capabilities) {
      const found = await queues(client, capabilities);
      expectSoon(found, found.urgentMs);
    },
  },
  {
    id: "M-7",
    says: "one build's many actions do not make another's wait for all of them",
    needs: "execution",
    async holds(client, capabilities) {
      const found = await queues(client, capabilities);
      const { slots, startsMs: { length: of } } = found;
      if (slots === 1) throw new NotOffered("it runs one action at a time: whose turn it is cannot be told");
      if (slots * 2 >= of) throw new NotOffered(`it has ${slots} slots, too many to tell`);
      const earlier = earlierThan(found, found.otherBuildMs);
      expectThat(earlier <= Math.max(slots + 1, of / 2), `${earlier} of ${of} were before it, on ${slots} slots`);
    },
  },
];
