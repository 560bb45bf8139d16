import { Buffer } from "node:buffer";
import type { ActionResultData } from "../domain/action_result.ts";
import type { CommandData } from "../domain/command.ts";
import type { Node } from "../domain/node.ts";
import { decodeDirectory, decodeTree, encodeDirectory } from "../protocol/reapi/canonical.ts";
import { varintWire, type WireWriter } from "../protocol/reapi/wire.ts";
import { execute, failureOf, prepare, resultOf, run, textOf, wireOf } from "./asked.ts";
import {
  digestOfBytes,
  expectIsOneOf,
  expectThat,
  load,
  missingOf,
  nameOfCode,
  type ProbeClient,
  within,
} from "./client.ts";
import type { Check } from "./run.ts";

/** How outputs are asked for: as clients of 2.0 do, and as later ones. */
type Form = (files: readonly string[], folders: readonly string[]) => Partial<CommandData>;
const forms: readonly Form[] = [
  (outputFiles, outputDirectories) => ({ outputFiles, outputDirectories }),
  (files, folders) => ({ outputs: [...files, ...folders] }),
];

interface Folder {
  readonly nodes: readonly Node[];
  readonly bytes: Uint8Array;
}

/** The folders of an output folder, by hash; the root is the first. */
async function foldersOf(
  client: ProbeClient,
  { tree }: ActionResultData["outputDirectories"][number],
): Promise<ReadonlyMap<string, Folder>> {
  expectThat(tree !== undefined, "it has no tree");
  const { root, children } = decodeTree(await load(client, wireOf(tree)));
  const folders = new Map<string, Folder>();
  for (const bytes of [root, ...children]) {
    const { hash } = digestOfBytes(bytes);
    expectThat(!folders.has(hash) || bytes === root, "a folder is there twice");
    folders.set(hash, { nodes: decodeDirectory(bytes), bytes });
  }
  return folders;
}

const made = "mkdir -p d/x/same d/y/same d/empty; echo 1 > d/x/same/f; echo 1 > d/y/same/f; ln -s x/same/f d/link";

/** Part 14, what becomes of outputs. */
export const checks: readonly Check[] = [
  {
    id: "O-1",
    says: "files and folders are found however they are asked for; output_paths counts before the older lists",
    needs: "execution",
    async holds(client) {
      for (const form of forms) {
        const { outputFiles, outputDirectories } = await run(client, {
          script: "echo > f; mkdir d; echo > d/f",
          command: form(["f"], ["d"]),
        });
        const found = [...outputFiles, ...outputDirectories].map(({ path }) => path);
        expectThat(found.join() === "f,d", `it has ${found.join() || "nothing"}`);
      }
      const { outputFiles } = await run(client, {
        script: "touch new old",
        command: { outputs: ["new"], outputFiles: ["old"] },
      });
      expectThat(outputFiles.map(({ path }) => path).join() === "new", `it has ${outputFiles.length} outputs`);
    },
  },
  {
    id: "O-2",
    says: "an output that is not made is left out",
    needs: "execution",
    async holds(client) {
      for (const form of forms) {
        const result = await run(client, { script: "true", command: form(["f"], ["d"]) });
        expectThat(result.outputFiles.length + result.outputDirectories.length === 0, "it is told");
      }
    },
  },
  {
    id: "O-3",
    says: "a file is told with its path below the working directory, as it was asked, and whether it may be run",
    needs: "execution",
    async holds(client) {
      for (const form of forms) {
        const { outputFiles } = await run(client, {
          script: "echo 1 > b/plain; echo 2 > b/tool; chmod +x b/tool",
          command: { ...form(["b/plain", "b/tool"], []), workingDirectory: "w" },
        });
        const told = outputFiles.map(({ path, executable }) => `${path} ${executable}`).sort();
        expectThat(told.join() === "b/plain false,b/tool true", `it tells ${told.join()}`);
        expectThat(
          await textOf(client, outputFiles.find(({ path }) => path === "b/plain")?.digest) === "1\n",
          "it has other bytes",
        );
      }
    },
  },
  {
    id: "O-4",
    says: "an output folder is a Tree with every folder below, each once",
    needs: "execution",
    async holds(client) {
      for (const form of forms) {
        const { outputDirectories: [folder] } = await run(client, { script: made, command: form([], ["d"]) });
        expectThat(folder?.path === "d", "it is not told");
        const folders = await foldersOf(client, folder);
        for (const { nodes } of folders.values()) {
          for (const node of nodes) {
            const isThere = node.kind !== "directory" || folders.has(node.digest.slice(0, 64));
            expectThat(isThere, `folder ${node.name} is not there`);
          }
        }
        expectThat(folders.size === 4, `it has ${folders.size} folders of 4`); // two pairs are alike
      }
    },
  },
  {
    id: "O-5",
    says: "folders are encoded canonically",
    needs: "execution",
    async holds(client) {
      const { outputDirectories: [folder] } = await run(client, { script: made, command: forms[0]!([], ["d"]) });
      expectThat(folder !== undefined, "it is not told");
      for (const { nodes, bytes } of (await foldersOf(client, folder)).values()) {
        expectThat(Buffer.from(encodeDirectory(nodes)).equals(bytes), "one has other bytes than its content asks for");
      }
    },
  },
  {
    id: "O-6",
    says: "whatever format of folders is asked for, what is told is there; sorted is said only of what is",
    needs: "execution",
    async holds(client) {
      for (const format of [0, 1, 2]) {
        const alsoInCommand = (writer: WireWriter): void => {
          writer.tag(9, varintWire);
          writer.varint(format);
        };
        const { outputDirectories: [folder] } = await run(client, {
          script: made,
          command: { outputs: ["d"] },
          ...(format === 0 ? {} : { alsoInCommand }),
        });
        expectThat(folder !== undefined, "it is not told");
        const { tree, rootDirectory, isTopologicallySorted } = folder;
        expectThat(format === 1 || tree !== undefined, `for format ${format} there is no tree`);
        expectThat(format !== 0 || rootDirectory === undefined, "for TREE_ONLY there is a root");
        expectThat(tree !== undefined || rootDirectory !== undefined, `for format ${format} there is neither`);
        if (tree !== undefined && isTopologicallySorted) {
          const named = new Set<string>();
          for (const [hash, { nodes }] of await foldersOf(client, folder)) {
            expectThat(named.size === 0 || named.has(hash), "a child is before its parent");
            for (const node of nodes) if (node.kind === "directory") named.add(node.digest.slice(0, 64));
          }
        }
        const open = rootDirectory === undefined ? [] : [rootDirectory];
        for (let digest = open.pop(); digest !== undefined; digest = open.pop()) {
          const nodes = decodeDirectory(await load(client, wireOf(digest)));
          open.push(...nodes.flatMap((node) => node.kind === "directory" ? [node.digest] : []));
        }
      }
    },
  },
  {
    id: "O-7",
    says: "a symlink is told as one, in the newer list and the fitting older one alike",
    needs: "execution",
    async holds(client) {
      const result = await run(client, {
        script: "echo > f; ln -s f l; mkdir d; ln -s d m",
        command: { outputs: ["l", "m"] },
      });
      const told = (list: ActionResultData["outputSymlinks"]): string =>
        list.map(({ path, target }) => `${path} ${target}`).sort().join();
      expectThat(told(result.outputSymlinks) === "l f,m d", `it tells ${told(result.outputSymlinks)}`);
      const older = [...result.outputFileSymlinks, ...result.outputDirectorySymlinks];
      expectThat(told(older) === "l f,m d", `the older lists tell ${told(older)}`);
      const old = await run(client, {
        script: "echo > f; ln -s f l; mkdir d; ln -s d m",
        command: { outputFiles: ["l"], outputDirectories: ["m"] },
      });
      expectThat(told(old.outputFileSymlinks) === "l f", `as a file, it tells ${told(old.outputFileSymlinks)}`);
      expectThat(told(old.outputDirectorySymlinks) === "m d", `as a folder, ${told(old.outputDirectorySymlinks)}`);
    },
  },
  {
    id: "O-8",
    says: "a symlink within an output folder stays one",
    needs: "execution",
    async holds(client) {
      for (const form of forms) {
        const { outputDirectories: [folder] } = await run(client, { script: made, command: form([], ["d"]) });
        expectThat(folder !== undefined, "the folder is not told");
        const [root] = (await foldersOf(client, folder)).values();
        const link = root!.nodes.find(({ name }) => name === "link");
        expectThat(link?.kind === "symlink" && link.target === "x/same/f", `it is ${JSON.stringify(link)}`);
      }
    },
  },
  {
    id: "O-9",
    says: "an absolute target is FAILED_PRECONDITION where it is disallowed, and else stays",
    needs: "execution",
    async holds(client, { cacheCapabilities }) {
      const asked = { script: "ln -s /etc/hostname l", command: { outputs: ["l"] } };
      if (cacheCapabilities?.symlinkAbsolutePathStrategy === 1) {
        const { code } = await failureOf(client, await prepare(client, asked));
        return expectIsOneOf(code, ["FAILED_PRECONDITION"]);
      }
      const { outputSymlinks: [link] } = await run(client, asked);
      expectThat(link?.target === "/etc/hostname", `it is ${JSON.stringify(link)}`);
    },
  },
  {
    id: "O-10",
    says: "a folder where a file was asked for, or the reverse, is FAILED_PRECONDITION",
    needs: "execution",
    async holds(client) {
      const asked = [
        { script: "mkdir f", command: { outputFiles: ["f"] } },
        { script: "echo > d", command: { outputDirectories: ["d"] } },
      ];
      for (const each of asked) {
        const { code } = await failureOf(client, await prepare(client, each));
        expectIsOneOf(code, ["FAILED_PRECONDITION"]);
      }
    },
  },
  {
    id: "O-11",
    says: "the working directory itself may be an output, and outputs may overlap",
    needs: "execution",
    async holds(client) {
      const { outputDirectories: [whole] } = await run(client, { script: "echo > f", command: { outputs: [""] } });
      expectThat(whole?.path === "", "it is not told");
      const [root] = (await foldersOf(client, whole)).values();
      expectThat(root!.nodes.some(({ name }) => name === "f"), "it lacks what is in it");
      const both = await run(client, { script: "mkdir d; echo > d/f", command: { outputs: ["d", "d/f"] } });
      expectThat(both.outputDirectories.length === 1 && both.outputFiles.length === 1, "one of two is missing");
    },
  },
  {
    id: "O-12",
    says: "a pipe among the outputs is passed over or refused, and never waited for",
    needs: "execution",
    async holds(client) {
      for (const form of forms) {
        const action = await prepare(client, {
          script: "mkdir d; mkfifo d/pipe; echo > d/f",
          command: form([], ["d"]),
        });
        const { response } = await within(60_000, "the end", execute(client, action));
        const code = response.status?.code ?? 0;
        expectThat(code !== 13 && code !== 14 && code !== 4, `it answers ${nameOfCode(code)}`);
        expectThat(code === 0 || response.status!.message !== "", "it does not say why");
      }
    },
  },
  {
    id: "O-12",
    says: "a name that is not UTF-8 is passed over or refused in plain words",
    needs: "execution",
    async holds(client) {
      const action = await prepare(client, {
        script: "mkdir d; echo > \"d/$(printf 'a\\377b')\"",
        command: { outputs: ["d"] },
      });
      const { response } = await execute(client, action);
      const code = response.status?.code ?? 0;
      expectThat(code !== 14, `it answers ${nameOfCode(code)}, so that clients try again`);
      if (code !== 0) return expectThat(response.status!.message !== "", "it does not say why");
      const { exitCode, outputDirectories: [folder] } = resultOf(response);
      if (exitCode === 0 && folder !== undefined) await foldersOf(client, folder);
    },
  },
  {
    id: "O-13",
    says: "all that a result refers to is there when it is told",
    needs: "execution",
    async holds(client) {
      const action = await prepare(client, {
        script: "echo 1 > f; mkdir d; echo 2 > d/f; echo out; echo err >&2",
        command: { outputs: ["f", "d"] },
      });
      const { outputFiles, outputDirectories, stdout, stderr } = resultOf((await execute(client, action)).response);
      const named = [...outputFiles.map(({ digest }) => digest), ...outputDirectories.map(({ tree }) => tree)]
        .concat([stdout, stderr]).flatMap((digest) => digest === undefined ? [] : [wireOf(digest)]);
      expectThat(await missingOf(client, named) === 0, "something is missing");
      const [, folder] = [outputFiles, outputDirectories[0]];
      for (const { nodes } of (await foldersOf(client, folder!)).values()) {
        const files = nodes.flatMap((node) => node.kind === "file" ? [wireOf(node.digest)] : []);
        expectThat(await missingOf(client, files) === 0, "a file of the folder is missing");
      }
    },
  },
  {
    id: "O-14",
    says: "stdout and stderr have a digest and their bytes, untouched",
    needs: "execution",
    async holds(client) {
      for (const script of ["printf 'a\\0\\377b\\r\\n'; printf 'e' >&2", "head -c 100000 /dev/zero; printf e >&2"]) {
        const result = await run(client, { script });
        const { stdout, stdoutRaw, stderr } = result;
        expectThat(stdout !== undefined && stderr !== undefined, "it has no digest");
        const bytes = await load(client, wireOf(stdout));
        const wanted = script.startsWith("printf") ? Buffer.from("a\0\xffb\r\n", "latin1") : Buffer.alloc(100_000);
        expectThat(bytes.equals(wanted), `it has ${bytes.length} bytes`);
        expectThat(stdoutRaw === undefined || wanted.equals(stdoutRaw), "the bytes in the result are others");
        expectThat(await textOf(client, stderr) === "e", "stderr is another");
      }
    },
  },
  {
    id: "O-15",
    says: "what is left in the background is ended, and not waited for",
    needs: "execution",
    async holds(client) {
      const { outputFiles } = await within(
        60_000,
        "the end",
        run(client, { script: "(sleep 2; echo late > f) & sleep 600 & echo now > f", command: { outputs: ["f"] } }),
      );
      expectThat(await textOf(client, outputFiles[0]?.digest) === "now\n", "its output is another");
    },
  },
  {
    id: "O-16",
    says: "a command that was killed by signal N exits with 128 + N",
    needs: "execution",
    async holds(client) {
      for (const [signal, code] of [["9", 137], ["15", 143]] as const) {
        const { exitCode } = await run(client, { script: `kill -${signal} $$; sleep 5` });
        expectThat(exitCode === code, `by ${signal} it exits with ${exitCode}`);
      }
    },
  },
];
