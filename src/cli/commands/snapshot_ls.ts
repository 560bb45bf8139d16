import { sizeOf } from "../../domain/digest.ts";
import type { Node } from "../../snapshots/trees/tree.ts";
import { clusterFlags, command } from "../command.ts";
import { exitCodes } from "../exit_codes.ts";
import { resolveSnapshot } from "../ids.ts";
import { jsonLine, plain } from "../render.ts";

/** Lines are written so many at once. */
const linesAtOnce = 500;

export const snapshotLs = command({
  name: "snapshot ls",
  usage: ["snapshot ls ID [PATH] [FLAGS]"],
  about: "Lists everything in a snapshot, or below a path of it: kind and execute bit, size in bytes, path.",
  examples: [
    ["snapshot ls release", "all of it"],
    ["snapshot ls release src/web", "a part"],
    ["snapshot ls release --json", "with digests, for programs"],
  ],
  flags: clusterFlags,
  words: { min: 1, max: 2 },
  async run({ words: [id = "", path = ""], world, isJson, connect }) {
    const client = await connect();
    const snapshot = await resolveSnapshot(client, id);
    const name = world.stdout.isTerminal ? plain : (text: string): string => text;
    let lines: string[] = [];
    for await (const entry of (await world.trees()).walk(client.blobs, snapshot, path)) {
      lines.push(
        isJson
          ? jsonLine(asData(entry))
          : `${modeOf(entry.node)} ${sizeText(entry.node).padStart(12)}  ${name(entry.path)}${
            tailOf(entry.node, name)
          }\n`,
      );
      if (lines.length < linesAtOnce) continue;
      await world.stdout.write(lines.join(""));
      lines = [];
    }
    if (lines.length > 0) await world.stdout.write(lines.join(""));
    return exitCodes.done;
  },
});

const modeOf = (node: Node): string =>
  node.kind === "directory" ? "d" : node.kind === "symlink" ? "l" : node.executable ? "x" : "-";

const sizeText = (node: Node): string => node.kind === "file" ? String(sizeOf(node.digest)) : "";

const tailOf = (node: Node, name: (text: string) => string): string =>
  node.kind === "directory" ? "/" : node.kind === "symlink" ? ` -> ${name(node.target)}` : "";

/** The whole path takes the place of the name. */
function asData({ path, node }: { readonly path: string; readonly node: Node }): unknown {
  const { name: _, ...what } = node;
  return { path, ...what };
}
