import type { Node } from "../domain/node.ts";
import { encodeDirectory } from "../protocol/reapi/canonical.ts";
import { execute, prepare, resultOf, run, send, stdoutOf, textOf } from "./asked.ts";
import { expectIsOneOf, expectThat, type ProbeClient, within } from "./client.ts";
import type { Check } from "./run.ts";

const file = async (client: ProbeClient, name: string, text: string, executable = false): Promise<Node> => ({
  kind: "file",
  name,
  digest: await send(client, new TextEncoder().encode(text)),
  executable,
});
const folder = async (client: ProbeClient, name: string, nodes: readonly Node[]): Promise<Node> => ({
  kind: "directory",
  name,
  digest: await send(client, encodeDirectory(nodes)),
});

async function expectDone(client: ProbeClient, asked: Parameters<typeof run>[1]): Promise<void> {
  const result = await run(client, asked);
  expectThat(
    result.exitCode === 0,
    `it exits with ${result.exitCode}: ${await stdoutOf(client, result)}${await textOf(client, result.stderr)}`,
  );
}

/** Parts 14 and 15: what a command is given, and how it ends. */
export const checks: readonly Check[] = [
  {
    id: "I-3",
    says: "the same content may be run in one place and not in another",
    needs: "execution",
    async holds(client) {
      const text = `#!/bin/sh\n# ${Math.random()}\n`;
      await expectDone(client, {
        script: "test ! -x plain && test -x tool && ./tool",
        inputs: [await file(client, "plain", text), await file(client, "tool", text, true)],
      });
    },
  },
  {
    id: "I-4",
    says: "empty folders and symlinks that lead up or nowhere are kept as they are",
    needs: "execution",
    async holds(client) {
      await expectDone(client, {
        script: 'test -d empty && test "$(readlink a/up)" = ../f && test "$(cat a/up)" = text && ' +
          'test "$(readlink nowhere)" = not/there && test ! -e nowhere',
        inputs: [
          await file(client, "f", "text"),
          await folder(client, "empty", []),
          await folder(client, "a", [{ kind: "symlink", name: "up", target: "../f" }]),
          { kind: "symlink", name: "nowhere", target: "not/there" },
        ],
      });
    },
  },
  {
    id: "I-5",
    says: "inputs have a time that is not now, and the same each time",
    needs: "execution",
    async holds(client) {
      const inputs = [await file(client, "f", "text"), await file(client, "g", "other")];
      const said = [];
      for (let times = 0; times < 2; times++) {
        said.push(await stdoutOf(client, await run(client, { script: "stat -c %Y f g", inputs })));
      }
      const times = new Set(said.join("").trim().split("\n"));
      expectThat(
        times.size === 1 && Number([...times][0]) < Date.now() / 1e3 - 3_600,
        `it is ${[...times].join(", ")}`,
      );
    },
  },
  {
    id: "I-6",
    says: "the working directory is there though no input makes it",
    needs: "execution",
    async holds(client) {
      const text = await stdoutOf(client, await run(client, { script: "pwd", command: { workingDirectory: "a/b" } }));
      expectThat(text.endsWith("/a/b\n"), `it is ${text}`);
    },
  },
  {
    id: "I-7",
    says: "the environment is what was declared; /proc is there",
    needs: "execution",
    async holds(client) {
      const said = await stdoutOf(
        client,
        await run(client, { command: { argv: ["/usr/bin/env"], env: { MINE: "x" } } }),
      );
      const names = said.trim().split("\n").map((line) => line.split("=")[0]);
      const others = names.filter((name) => name !== "MINE" && name !== "PATH");
      expectThat(said.includes("MINE=x\n"), "what was declared is not there");
      expectThat(others.length === 0, `it has ${others.join(", ")}`);
      await expectDone(client, { script: "cd /proc/self/cwd && test -e /proc/self/stat" });
    },
  },
  {
    id: "I-8",
    says: "a program is found from the working directory, or by PATH",
    needs: "execution",
    async holds(client) {
      const tool = await file(client, "tool", `#!/bin/sh\necho ran ${Math.random()}\n`, true);
      const inputs = [await folder(client, "a", [tool]), tool];
      await expectDone(client, { inputs, command: { argv: ["./tool"], workingDirectory: "a" } });
      await expectDone(client, { inputs, command: { argv: ["a/tool"] } });
      await expectDone(client, { command: { argv: ["true"] } });
      await expectDone(client, { command: { argv: ["true"], env: { PATH: "/bin:/usr/bin" } } });
    },
  },
  {
    id: "I-9",
    says: "stdin is empty, and what is written to /dev/stdout and /dev/stderr arrives",
    needs: "execution",
    async holds(client) {
      const result = await run(client, {
        script: "read it && exit 9; echo out > /dev/stdout; echo err > /dev/stderr",
      });
      const said = [await stdoutOf(client, result), await textOf(client, result.stderr)];
      expectThat(result.exitCode === 0 && said.join() === "out\n,err\n", `it says ${JSON.stringify(said)}`);
    },
  },
  {
    id: "I-10",
    says: "parents of outputs are there, and outputs are not, however they are named",
    needs: "execution",
    async holds(client) {
      for (
        const outputs of [
          { outputs: ["a/b/c", "d/e/f"] },
          { outputFiles: ["a/b/c"], outputDirectories: ["d/e/f"] },
        ]
      ) {
        await expectDone(client, {
          script: "test -d a/b && test ! -e a/b/c && test -d d/e && test ! -e d/e/f",
          command: outputs,
        });
      }
    },
  },
  {
    id: "TO-1",
    says: "a time-out is DEADLINE_EXCEEDED, with what was written so far",
    needs: "execution",
    async holds(client) {
      const action = await prepare(client, { script: "echo begun; sleep 600", timeoutMs: 1_000 });
      const { response } = await within(60_000, "the end", execute(client, action));
      expectIsOneOf(response.status?.code ?? 0, ["DEADLINE_EXCEEDED"], "its status is");
      const result = resultOf({ ...response, status: undefined });
      expectThat(
        result.exitCode !== 0 && await stdoutOf(client, result) === "begun\n",
        "what was written is not there",
      );
    },
  },
  {
    id: "TO-2",
    says: 'a time-out says "execution timeout exceeded"',
    needs: "execution",
    async holds(client) {
      const action = await prepare(client, { script: "sleep 600", timeoutMs: 500 });
      const { response } = await execute(client, action);
      expectThat(response.status?.message === "execution timeout exceeded", `it says ${response.status?.message}`);
    },
  },
  {
    id: "TO-3",
    says: "an exit code is a result, and never a failure",
    needs: "execution",
    async holds(client) {
      const { exitCode, stderr } = await run(client, { script: "echo no >&2; exit 3" });
      expectThat(exitCode === 3 && await textOf(client, stderr) === "no\n", `it exits with ${exitCode}`);
    },
  },
  {
    id: "TO-4",
    says: "a program that is not there, or may not be run, is 127 or 126 or INVALID_ARGUMENT",
    needs: "execution",
    async holds(client) {
      const plain = await file(client, "plain", "no program");
      for (const [program, code] of [["./nothing", 127], ["no-such-program", 127], ["./plain", 126]] as const) {
        const { response } = await execute(
          client,
          await prepare(client, {
            inputs: [plain],
            command: { argv: [program] },
          }),
        );
        if (response.status?.code === 3) continue;
        const { exitCode, stderr } = resultOf(response);
        expectThat(exitCode === code || exitCode === 127, `${program} exits with ${exitCode}`);
        expectThat((await textOf(client, stderr)) !== "", `${program} says nothing`);
      }
    },
  },
];
