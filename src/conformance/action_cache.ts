import { type ActionResultData, noOutputs } from "../domain/action_result.ts";
import { digestOfHash } from "../domain/digest.ts";
import { decodeActionResult, encodeActionResult } from "../protocol/reapi/action_result.ts";
import { encodeDirectory, encodeTree } from "../protocol/reapi/canonical.ts";
import type { WireDigest } from "../protocol/reapi/codec.ts";
import { methods } from "../protocol/reapi/services.ts";
import { execute, type Executed, prepare, resultOf, wireOf } from "./asked.ts";
import {
  digestOfBytes,
  expectCode,
  expectIsOneOf,
  expectThat,
  newBytes,
  NotOffered,
  type ProbeClient,
  statusOf,
  store,
} from "./client.ts";
import type { Capabilities, Check } from "./run.ts";

const needsUpdates = ({ cacheCapabilities }: Capabilities): void => {
  if (cacheCapabilities?.actionCacheUpdateCapabilities?.updateEnabled !== true) {
    throw new NotOffered("it does not say that results may be written");
  }
};

const digestOf = ({ hash, sizeBytes }: WireDigest) => digestOfHash(hash, sizeBytes);

const resultWith = (some: Partial<ActionResultData>): Uint8Array =>
  encodeActionResult({
    ...noOutputs,
    exitCode: 0,
    execution: { worker: "conformance", auxiliary: [] },
    ...some,
  });

/** Of an action that no server has seen before, which it has. */
const newAction = (client: ProbeClient): Promise<WireDigest> => store(client, newBytes());

const update = (client: ProbeClient, actionDigest: WireDigest, actionResult: Uint8Array) =>
  client.unary(methods.updateActionResult, { actionDigest, actionResult });
const get = async (client: ProbeClient, actionDigest: WireDigest): Promise<ActionResultData> =>
  decodeActionResult(await client.unary(methods.getActionResult, { actionDigest }));

/** What refers to something that is not there is refused, or is kept and not answered. */
async function expectNotAnswered(client: ProbeClient, result: Uint8Array, what: string): Promise<void> {
  const action = await newAction(client);
  const { code } = await statusOf(update(client, action, result));
  expectIsOneOf(code, ["OK", "FAILED_PRECONDITION", "INVALID_ARGUMENT", "NOT_FOUND"], `without ${what} it answers`);
  const { code: found } = await statusOf(get(client, action));
  expectThat(found === 5, `without ${what} it is a hit`);
}

/** Part 9: the action cache. */
export const checks: readonly Check[] = [
  {
    id: "A-1",
    says: "a miss is NOT_FOUND",
    holds: (client) =>
      expectCode(client.unary(methods.getActionResult, { actionDigest: digestOfBytes(newBytes()) }), "NOT_FOUND"),
  },
  {
    id: "A-1",
    says: "a hit is never a message of no bytes",
    async holds(client, capabilities) {
      needsUpdates(capabilities);
      const action = await newAction(client);
      const { code } = await statusOf(update(client, action, new Uint8Array(0)));
      if (code !== 0) return;
      const asked = { actionDigest: action };
      const hit = await statusOf(client.unary(methods.getActionResult, asked));
      expectIsOneOf(hit.code, ["OK", "NOT_FOUND"]);
      if (hit.code === 0) expectThat((await client.unary(methods.getActionResult, asked)).length > 0, "it is");
    },
  },
  {
    id: "A-2",
    says: "a result is a hit only when all that it refers to is there",
    async holds(client, capabilities) {
      needsUpdates(capabilities);
      const [here, absent] = [digestOf(await store(client, newBytes())), digestOf(digestOfBytes(newBytes()))];
      const file = (digest: typeof here) => ({ path: "f", digest, executable: false });
      const whole = await newAction(client);
      await update(client, whole, resultWith({ outputFiles: [file(here)], stdout: here }));
      expectThat((await get(client, whole)).outputFiles.length === 1, "one that is whole is no hit");
      await expectNotAnswered(client, resultWith({ outputFiles: [file(absent)] }), "an output");
      await expectNotAnswered(client, resultWith({ stdout: absent }), "its stdout");
      await expectNotAnswered(client, resultWith({ stderr: absent }), "its stderr");
      const folder = (tree: typeof here) =>
        resultWith({
          outputDirectories: [{ path: "d", tree, isTopologicallySorted: false }],
        });
      await expectNotAnswered(client, folder(absent), "the tree of a folder");
      const root = encodeDirectory([{ kind: "file", name: "f", digest: absent, executable: false }]);
      await expectNotAnswered(client, folder(digestOf(await store(client, encodeTree(root, [])))), "a file of a tree");
    },
  },
  {
    id: "A-3",
    says: "what is asked to be inlined keeps its digest, and the answer stays below 4 MiB",
    async holds(client, capabilities) {
      needsUpdates(capabilities);
      const outputs = await Promise.all([6, 7, 8].map(async (name) => {
        const digest = digestOf(await store(client, newBytes(2 * 1024 * 1024)));
        return { path: `${name}`, digest, executable: false };
      }));
      const stdout = digestOf(await store(client, newBytes()));
      const actionDigest = await newAction(client);
      await update(client, actionDigest, resultWith({ outputFiles: outputs, stdout }));
      const bytes = await client.unary(methods.getActionResult, {
        actionDigest,
        inlineStdout: true,
        inlineStderr: true,
        inlineOutputFiles: outputs.map(({ path }) => path),
      });
      expectThat(bytes.length < 4 * 1024 * 1024, `it has ${bytes.length} bytes`);
      const found = decodeActionResult(bytes);
      expectThat(found.stdout === stdout && found.outputFiles.length === 3, "digests are missing");
    },
  },
  {
    id: "A-4",
    says: "an update answers with the result that is stored",
    async holds(client, capabilities) {
      needsUpdates(capabilities);
      const sent = resultWith({ exitCode: 0, stdout: digestOf(digestOfBytes(new Uint8Array(0))) });
      const action = await newAction(client);
      const answered = decodeActionResult(await update(client, action, sent));
      const found = await get(client, action);
      for (const one of [answered, found]) {
        expectThat(one.execution?.worker === "conformance", "it is another");
      }
    },
  },
  {
    id: "A-4",
    says: "bytes that are no result are refused",
    async holds(client, capabilities) {
      needsUpdates(capabilities);
      const action = await newAction(client);
      const bad = Uint8Array.of(0x12, 0x7f, 0x01); // an output file that ends too early
      await expectCode(update(client, action, bad), "INVALID_ARGUMENT", "INTERNAL");
      await expectCode(get(client, action), "NOT_FOUND");
    },
  },
  {
    id: "A-5",
    says: "a result of an action that is not in the store is taken or refused, and no failure",
    async holds(client, capabilities) {
      needsUpdates(capabilities);
      const action = digestOfBytes(newBytes());
      await expectCode(
        update(client, action, resultWith({})),
        "OK",
        "FAILED_PRECONDITION",
        "INVALID_ARGUMENT",
        "NOT_FOUND",
      );
    },
  },
  {
    id: "A-6",
    says: "what may not be cached, was ended or is no success of ours is not kept",
    needs: "execution",
    async holds(client) {
      const never = await prepare(client, { script: "true", doNotCache: true });
      resultOf((await execute(client, never)).response);
      const late = await prepare(client, { script: "sleep 600", timeoutMs: 500 });
      const { response }: Executed = await execute(client, late);
      expectThat(response.status?.code === 4, `a time-out has code ${response.status?.code}`);
      for (const action of [never, late]) await expectCode(get(client, wireOf(action)), "NOT_FOUND");
    },
  },
  {
    id: "A-7",
    says: "a result may be replaced",
    async holds(client, capabilities) {
      needsUpdates(capabilities);
      const action = await newAction(client);
      for (const bytes of [newBytes(), newBytes()]) {
        const digest = digestOf(await store(client, bytes));
        await update(client, action, resultWith({ outputFiles: [{ path: "f", digest, executable: false }] }));
        const { outputFiles: [file] } = await get(client, action);
        expectThat(file?.digest === digest, "the older one stays");
      }
    },
  },
  {
    id: "A-8",
    says: "a priority for keeping the result is taken",
    needs: "execution",
    async holds(client) {
      const action = await prepare(client, { script: "true" });
      resultOf((await execute(client, action, { resultsCachePolicy: { priority: 1 } })).response);
    },
  },
];
