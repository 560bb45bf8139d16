import { randomUUID } from "node:crypto";
import { digestOfHash } from "../domain/digest.ts";
import { encodeDirectory } from "../protocol/reapi/canonical.ts";
import { methods } from "../protocol/reapi/services.ts";
import { WireWriter } from "../protocol/reapi/wire.ts";
import { execute, failureOf, missingIn, prepare, resultOf, run, send, subjectOf, textOf, wireOf } from "./asked.ts";
import { digestOfBytes, expectIsOneOf, expectThat, newBytes, NotOffered, type ProbeClient, within } from "./client.ts";
import type { Check } from "./run.ts";

const digestOfNew = () => {
  const { hash, sizeBytes } = digestOfBytes(newBytes());
  return digestOfHash(hash, sizeBytes);
};

/** Details that clients pass over; others beside it make some of them give up. */
const harmless = ["PreconditionFailure", "DebugInfo", "Help", "LocalizedMessage", "RequestInfo", "ResourceInfo"];

/** Of a `Directory`, in the order given, whatever it is. */
function rawDirectory(names: readonly string[]): Uint8Array {
  const writer = new WireWriter();
  const { hash, sizeBytes } = digestOfBytes(new Uint8Array(0));
  for (const name of names) {
    const digest = new WireWriter();
    digest.text(1, hash, 64);
    if (sizeBytes > 0) throw new Error("it is the empty blob");
    const node = new WireWriter();
    if (name !== "") node.text(1, name, name.length);
    node.bytes(2, digest.finish());
    writer.bytes(1, node.finish());
  }
  return writer.finish();
}

async function expectRefused(
  client: ProbeClient,
  what: string,
  asked: Parameters<typeof prepare>[1],
  codes: readonly ("INVALID_ARGUMENT" | "FAILED_PRECONDITION")[] = ["INVALID_ARGUMENT"],
): Promise<void> {
  const { code } = await failureOf(client, await prepare(client, asked));
  expectIsOneOf(code, codes, `for ${what} it answers`);
}

/** Part 10: what is checked before an action runs. */
export const checks: readonly Check[] = [
  {
    id: "X-1",
    says: "an action that is not there is FAILED_PRECONDITION with what is missing",
    needs: "execution",
    async holds(client) {
      const action = digestOfNew();
      const status = await failureOf(client, action);
      expectIsOneOf(status.code, ["FAILED_PRECONDITION"]);
      expectThat(missingIn(status).includes(subjectOf(action)), `no violation is of ${subjectOf(action)}`);
    },
  },
  {
    id: "X-1",
    says: "all that is missing of the inputs is told at once",
    needs: "execution",
    async holds(client) {
      const [file, other, folder] = [digestOfNew(), digestOfNew(), digestOfNew()];
      const below = await send(
        client,
        encodeDirectory([{ kind: "file", name: "other", digest: other, executable: false }]),
      );
      const action = await prepare(client, {
        inputs: [
          { kind: "file", name: "file", digest: file, executable: false },
          { kind: "directory", name: "below", digest: below },
          { kind: "directory", name: "folder", digest: folder },
        ],
      });
      const status = await failureOf(client, action);
      expectIsOneOf(status.code, ["FAILED_PRECONDITION"]);
      const told = missingIn(status);
      const left = [file, other, folder].map(subjectOf).filter((subject) => !told.includes(subject));
      expectThat(left.length === 0, `${left.length} of 3 are not told`);
    },
  },
  {
    id: "X-2",
    says: "beside what is missing there is no detail that stops a client",
    needs: "execution",
    async holds(client) {
      const { details } = await failureOf(client, digestOfNew());
      const odd = details.map(({ typeUrl }) => typeUrl.split(".").at(-1)!).filter((type) => !harmless.includes(type));
      expectThat(
        details.length > 0 && odd.length === 0,
        odd.length === 0 ? "there is none" : `it has ${odd.join(", ")}`,
      );
    },
  },
  {
    id: "X-3",
    says: "what is missing is never NOT_FOUND",
    needs: "execution",
    async holds(client) {
      const gone = await prepare(client, { inputRoot: digestOfNew() });
      for (const action of [digestOfNew(), gone]) {
        const { code } = await failureOf(client, action);
        expectThat(code !== 5, "it is");
      }
    },
  },
  {
    id: "X-4",
    says: "what succeeded before is answered from the cache, for GetActionResult too",
    needs: "execution",
    async holds(client) {
      const action = await prepare(client, { script: "true" });
      const first = (await execute(client, action)).response;
      resultOf(first);
      expectThat(!first.cachedResult, "the first run is said to be cached");
      expectThat((await execute(client, action)).response.cachedResult, "the second is not cached");
      await client.unary(methods.getActionResult, { actionDigest: wireOf(action) });
    },
  },
  {
    id: "X-4",
    says: "skip_cache_lookup runs it anew, and its result replaces the older one",
    needs: "execution",
    async holds(client) {
      const action = await prepare(client, {
        script: "cat /proc/sys/kernel/random/uuid > f",
        command: { outputs: ["f"] },
      });
      const made = async (skipCacheLookup: boolean): Promise<string> => {
        const { outputFiles: [file] } = resultOf((await execute(client, action, { skipCacheLookup })).response);
        return await textOf(client, file?.digest);
      };
      const first = await made(false);
      const again = await made(true);
      expectThat(first !== again, "it is answered from the cache all the same");
      expectThat(await made(false) === again, "the older result stays");
    },
  },
  {
    id: "X-5",
    says: "a time limit beyond all bounds is INVALID_ARGUMENT; those of clients' tests are taken",
    needs: "execution",
    async holds(client) {
      for (const seconds of [0, 60, 300, 900, 3_600]) {
        const { exitCode } = await run(client, { script: "true", timeoutMs: seconds * 1_000 });
        expectThat(exitCode === 0, `with ${seconds} s it exits with ${exitCode}`);
      }
      await expectRefused(client, "a thousand years", { script: "true", timeoutMs: 1_000 * 365 * 86_400_000 });
    },
  },
  {
    id: "X-6",
    says: "a platform that is there and empty asks for nothing, in the Action as in the Command",
    needs: "execution",
    async holds(client) {
      const empty = (field: number) => (writer: WireWriter) => writer.bytes(field, new Uint8Array(0));
      for (const odd of [{ alsoInAction: empty(10) }, { alsoInCommand: empty(5) }]) {
        const { exitCode } = await run(client, { script: "true", ...odd });
        expectThat(exitCode === 0, `it exits with ${exitCode}`);
      }
    },
  },
  {
    id: "X-6",
    says: "the platform of the Action counts before that of the Command",
    needs: "execution",
    isSlow: true,
    async holds(client) {
      const unknown = [{ name: `conformance-${randomUUID()}`, value: "x" }];
      const codes = ["INVALID_ARGUMENT", "FAILED_PRECONDITION"] as const;
      await Promise.all([
        expectRefused(client, "a platform of the Action", { platform: unknown }, codes),
        expectRefused(client, "a platform of the Command", { command: { platform: unknown } }, codes),
      ]);
    },
  },
  {
    id: "X-7",
    says: "a property that no worker has is refused, and not queued for ever",
    needs: "execution",
    isSlow: true,
    async holds(client) {
      const platform = [{ name: `conformance-${randomUUID()}`, value: "x" }];
      const status = await within(90_000, "the answer", failureOf(client, await prepare(client, { platform })));
      expectIsOneOf(status.code, ["INVALID_ARGUMENT", "FAILED_PRECONDITION"]);
      expectThat(status.message !== "", "it does not say why");
    },
  },
  {
    id: "X-8",
    says: "a folder out of form is INVALID_ARGUMENT",
    needs: "execution",
    async holds(client) {
      const odd = { unsorted: ["b", "a"], doubled: ["a", "a"], slash: ["a/b"], dot: ["."], up: [".."], nameless: [""] };
      for (const [what, names] of Object.entries(odd)) {
        await expectRefused(client, what, { inputRoot: await send(client, rawDirectory(names)) });
      }
    },
  },
  {
    id: "X-8",
    says: "a command without arguments, or a path that is absolute or leads out, is INVALID_ARGUMENT",
    needs: "execution",
    async holds(client) {
      await expectRefused(client, "no arguments", { command: { argv: [] } });
      for (const path of ["/absolute", "../up", "a/../../up"]) {
        await expectRefused(client, `the output ${path}`, { command: { outputs: [path] } });
        await expectRefused(client, `the older output ${path}`, { command: { outputFiles: [path] } });
        await expectRefused(client, `the working directory ${path}`, { command: { workingDirectory: path } });
      }
    },
  },
  {
    id: "X-8",
    says: "bytes that are no Action or no Command are refused",
    needs: "execution",
    async holds(client) {
      const garbage = new Uint8Array([0x0a, 0xff, 0xff, 0x03, ...newBytes()]);
      const { code } = await failureOf(client, await send(client, garbage));
      expectIsOneOf(code, ["INVALID_ARGUMENT"]);
    },
  },
  {
    id: "X-9",
    says: "an absolute symlink in the inputs is INVALID_ARGUMENT where it is disallowed, and else stays",
    needs: "execution",
    async holds(client, { cacheCapabilities }) {
      const inputs = [{ kind: "symlink", name: "l", target: "/etc/hostname" }] as const;
      if (cacheCapabilities?.symlinkAbsolutePathStrategy === 1) {
        return await expectRefused(client, "an absolute symlink", { inputs });
      }
      const { exitCode } = await run(client, { script: 'test "$(readlink l)" = /etc/hostname', inputs });
      expectThat(exitCode === 0, "it leads elsewhere");
    },
  },
  {
    id: "X-11",
    says: "a priority beyond what is offered is INVALID_ARGUMENT",
    needs: "execution",
    async holds(client, { executionCapabilities }) {
      const ranges = executionCapabilities?.executionPriorityCapabilities?.priorities ?? [];
      if (ranges.length === 0) throw new NotOffered("it has no priorities");
      for (
        const { priority } of ranges.flatMap((
          it,
        ) => [{ priority: it.minPriority - 1 }, { priority: it.maxPriority + 1 }])
      ) {
        if (ranges.some((it) => it.minPriority <= priority && priority <= it.maxPriority)) continue;
        const { code } = await failureOf(client, await prepare(client, { script: "true" }), { priority });
        expectIsOneOf(code, ["INVALID_ARGUMENT"]);
      }
    },
  },
];
