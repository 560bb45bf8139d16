import { randomUUID } from "node:crypto";
import { message, text } from "../protocol/reapi/codec.ts";
import { stages } from "../protocol/reapi/messages.ts";
import { methods } from "../protocol/reapi/services.ts";
import { begin, begunOf, endOf, execute, metadataOf, prepare, resultOf, run, stdoutOf, wireOf } from "./asked.ts";
import {
  expectCode,
  expectIsOneOf,
  expectThat,
  load,
  missingOf,
  NotOffered,
  type ProbeClient,
  statusOf,
  within,
} from "./client.ts";
import type { Check } from "./run.ts";

const metadataType = "type.googleapis.com/build.bazel.remote.execution.v2.ExecuteOperationMetadata";
const responseType = "type.googleapis.com/build.bazel.remote.execution.v2.ExecuteResponse";

/** Of one field, which is all that this asks for. */
const named = message("a DeleteOperationRequest", { name: text(1) });
const deleteOperation = {
  path: "/google.longrunning.Operations/DeleteOperation",
  kind: "unary",
  request: named,
  response: message("an Empty", {}),
} as const;

/** @throws {NotOffered} when the service is not there. */
async function operationsOf<Answer>(call: Promise<Answer>): Promise<Answer> {
  if ((await statusOf(call)).code === 12) throw new NotOffered("it has no Operations");
  return await call;
}

const wait = async (client: ProbeClient, name: string) => endOf(await client.stream(methods.waitExecution, { name }));

/** Part 11: the stream of Execute, operations, WaitExecution. */
export const checks: readonly Check[] = [
  {
    id: "E-1",
    says: "the first answer is prompt and has a name, which is never another's",
    needs: "execution",
    async holds(client) {
      const names = new Set<string>();
      for (let times = 0; times < 3; times++) {
        const action = await prepare(client, { script: "sleep 1" });
        const running = await within(5_000, "the first answer", begin(client, action));
        expectThat(running.name !== "", "it has no name");
        names.add(running.name);
        const { operations } = await running.end();
        expectThat(operations.every(({ name }) => name === running.name), "the name changes");
      }
      expectThat(names.size === 3, "names are used again");
    },
  },
  {
    id: "E-2",
    says: "metadata tell the stage and the action; done means COMPLETED",
    needs: "execution",
    async holds(client) {
      const action = await prepare(client, { script: "sleep 1" });
      const { operations } = await execute(client, action);
      for (const each of operations) {
        expectThat(each.metadata?.typeUrl === metadataType, `their type is ${each.metadata?.typeUrl}`);
        const { stage, actionDigest } = metadataOf(each);
        expectThat(actionDigest?.hash === wireOf(action).hash, "the action is another");
        expectThat(each.done === (stage === stages.completed), `stage ${stage} is done: ${each.done}`);
      }
    },
  },
  {
    id: "E-3",
    says: "the end is an ExecuteResponse, and never an error, whatever goes wrong",
    needs: "execution",
    async holds(client) {
      const asked = [{ script: "true" }, { script: "exit 3" }, { script: "sleep 600", timeoutMs: 500 }];
      for (const each of asked) {
        const { last } = await execute(client, await prepare(client, each));
        expectThat(last.response?.typeUrl === responseType, `its type is ${last.response?.typeUrl}`);
      }
    },
  },
  {
    id: "E-4",
    says: "a status of OK always comes with a result",
    needs: "execution",
    async holds(client) {
      const action = await prepare(client, { script: "true" });
      for (let times = 0; times < 2; times++) resultOf((await execute(client, action)).response);
    },
  },
  {
    id: "E-5",
    says: "a result has metadata of its execution, in the order of time",
    needs: "execution",
    async holds(client) {
      const { execution: it } = await run(client, { script: "echo > f", command: { outputs: ["f"] } });
      expectThat(it !== undefined && it.worker !== "", "it names no worker");
      const times = [
        it.queuedAt,
        it.workerStartedAt,
        it.inputFetchStartedAt,
        it.inputFetchCompletedAt,
        it.executionStartedAt,
        it.executionCompletedAt,
        it.outputUploadStartedAt,
        it.outputUploadCompletedAt,
        it.workerCompletedAt,
      ].map((time) => time === undefined ? -1 : time.seconds * 1e3 + time.nanos / 1e6);
      expectThat(
        times.every((time, place) => time > 0 && time >= (times[place - 1] ?? 0)),
        `the times are ${times.join(", ")}`,
      );
    },
  },
  {
    id: "E-6",
    says: "WaitExecution tells what goes on at once, and the end, of what has ended too",
    needs: "execution",
    async holds(client) {
      const action = await prepare(client, { script: "sleep 2; exit 4" });
      const running = await begin(client, action);
      running.answers.cancel();
      const back = await within(
        5_000,
        "the first answer",
        begunOf(client.open(methods.waitExecution, { name: running.name })),
      );
      for (const { name, response } of [await back.end(), await wait(client, running.name)]) {
        expectThat(name === running.name, "it is another operation");
        expectThat(resultOf(response).exitCode === 4, "its exit code is another");
      }
    },
  },
  {
    id: "E-7",
    says: "WaitExecution of an unknown name is NOT_FOUND",
    needs: "execution",
    async holds(client) {
      const running = await begin(client, await prepare(client, { script: "true" }));
      await running.end();
      for (const name of [randomUUID(), `${running.name}x`, ""]) {
        await expectCode(client.stream(methods.waitExecution, { name }), "NOT_FOUND");
      }
    },
  },
  {
    id: "E-8",
    says: "to come back often costs the action nothing: it is run once",
    needs: "execution",
    async holds(client) {
      const action = await prepare(client, { script: "date +%s%N; sleep 3" });
      const running = await begin(client, action);
      running.answers.cancel();
      for (let times = 0; times < 50; times++) {
        const back = await begunOf(client.open(methods.waitExecution, { name: running.name }));
        if (back.first.done) break;
        back.answers.cancel();
      }
      const said = await stdoutOf(client, resultOf((await wait(client, running.name)).response));
      const startedMs = Number(said.trim()) / 1e6;
      const { execution } = resultOf((await wait(client, running.name)).response);
      const at = execution?.executionCompletedAt;
      expectThat(
        at !== undefined && at.seconds * 1e3 - startedMs < 10_000 && said.trim().split("\n").length === 1,
        `it says ${JSON.stringify(said)}`,
      );
    },
  },
  {
    id: "E-11",
    says: "GetOperation answers for what runs, and for what has ended",
    needs: "execution",
    async holds(client) {
      const running = await begin(client, await prepare(client, { script: "sleep 1" }));
      const during = await operationsOf(client.unary(methods.getOperation, { name: running.name }));
      expectThat(during.name === running.name, "it is another");
      await running.end();
      expectThat((await client.unary(methods.getOperation, { name: running.name })).done, "it does not end");
      await expectCode(client.unary(methods.getOperation, { name: randomUUID() }), "NOT_FOUND");
    },
  },
  {
    id: "E-11",
    says: "ListOperations pages through what runs",
    needs: "execution",
    async holds(client) {
      const actions = await Promise.all([1, 2, 3].map(() => prepare(client, { script: "sleep 3" })));
      const running = await Promise.all(actions.map((action) => begin(client, action)));
      try {
        const found = new Set<string>();
        let pageToken = "";
        for (let pages = 0; pages < 100; pages++) {
          const page = await operationsOf(client.unary(methods.listOperations, { pageSize: 1, pageToken }));
          expectThat(page.operations.length <= 1, `a page of 1 has ${page.operations.length}`);
          for (const { name } of page.operations) found.add(name);
          pageToken = page.nextPageToken;
          if (pageToken === "") break;
        }
        expectThat(running.every(({ name }) => found.has(name)), `it lists ${found.size}, and not all that run`);
      } finally {
        await Promise.all(running.map((each) => each.end()));
      }
    },
  },
  {
    id: "E-11",
    says: "DeleteOperation is OK, or is not there",
    needs: "execution",
    async holds(client) {
      const { name } = await execute(client, await prepare(client, { script: "true" }));
      await expectCode(client.unary(deleteOperation, { name }), "OK", "UNIMPLEMENTED");
    },
  },
  {
    id: "E-12",
    says: "the response to an action that fails has a message for people",
    needs: "execution",
    async holds(client) {
      const { response } = await execute(client, await prepare(client, { script: "exit 3" }));
      if (response.message === "") throw new NotOffered("it has none");
      expectThat(response.message.length < 10_000, `it has ${response.message.length} characters`);
    },
  },
  {
    id: "E-13",
    says: "server logs are for people, and there",
    needs: "execution",
    async holds(client) {
      const { response } = await execute(client, await prepare(client, { script: "exit 3" }));
      const logs = response.serverLogs.flatMap(({ value }) => value === undefined ? [] : [value]);
      if (logs.length === 0) throw new NotOffered("it has none");
      for (const { humanReadable, digest } of logs) {
        expectThat(humanReadable, "one is not human_readable");
        expectThat(digest !== undefined && await missingOf(client, [digest]) === 0, "one is missing");
        await load(client, digest);
      }
    },
  },
  {
    id: "E-14",
    says: "while it runs, metadata tell on which worker and since when",
    needs: "execution",
    async holds(client) {
      const { operations } = await execute(client, await prepare(client, { script: "sleep 2" }));
      const running = operations.map(metadataOf).filter(({ stage }) => stage === stages.executing);
      expectThat(running.length > 0, "it is never EXECUTING");
      const told = running.at(-1)!.partialExecutionMetadata;
      if (told === undefined) throw new NotOffered("it has no partial_execution_metadata");
      expectThat(told.worker !== "" && told.queuedTimestamp !== undefined, "they name no worker");
    },
  },
  {
    id: "M-5",
    says: "CancelOperation ends it with CANCELLED",
    needs: "execution",
    async holds(client) {
      const running = await begin(client, await prepare(client, { script: "sleep 600" }));
      await operationsOf(client.unary(methods.cancelOperation, { name: running.name }));
      const { response } = await within(30_000, "the end", running.end());
      expectIsOneOf(response.status?.code ?? 0, ["CANCELLED"], "its status is");
    },
  },
];
