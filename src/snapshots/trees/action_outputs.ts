import { readlinkSync, realpathSync, statSync } from "node:fs";
import { dirname } from "node:path";
import type { ActionResultData, OutputDirectory } from "../../domain/action_result.ts";
import type { CommandData } from "../../domain/command.ts";
import type { Digest } from "../../domain/digest.ts";
import { Fault } from "../../domain/fault.ts";
import { encodeTree } from "../../protocol/reapi/canonical.ts";
import { digestOf } from "../blobs/blobs.ts";
import { wholeFolder } from "./outputs.ts";
import { segmentsOf } from "./read_tree.ts";
import { FileReader, isExecutable, realFolder, type SourceOptions, statOf } from "./read_files.ts";

export interface ActionOutputsOptions extends SourceOptions {
  /** The folder of all inputs: what lies outside of it, behind symlinks, is no output. `dir` by default. */
  readonly root?: string;
  /** How folders are told: as a `Tree`, by default, as their `Directory`, or as both (REAPI's OutputDirectoryFormat). */
  readonly format?: "tree" | "directory" | "both";
  /** Its outputs are relative to `dir`, the working directory. */
  readonly command: Pick<CommandData, "outputs" | "outputFiles" | "outputDirectories">;
}

/** What an action made, as an `ActionResult` lists it. */
export type ActionOutputs = Pick<
  ActionResultData,
  "outputFiles" | "outputDirectories" | "outputSymlinks" | "outputFileSymlinks" | "outputDirectorySymlinks"
>;

/** What a path may lead to: anything, or what the command's older form says. */
type Wanted = "any" | "file" | "directory";

/** Where outputs are looked for. */
interface Place {
  readonly reader: FileReader;
  readonly root: string;
  readonly dir: string;
  readonly format: NonNullable<ActionOutputsOptions["format"]>;
}

type Writable<Lists> = {
  -readonly [List in keyof Lists]: Lists[List] extends readonly (infer Item)[] ? Item[] : never;
};

/**
 * Captures the outputs of an action at exactly the paths that were asked for. Those that are not there are left out:
 * whoever asked knows which of them it needs. All of it is in the store when it resolves.
 *
 * @throws {Fault} `OUTPUT_INVALID` for a folder where the command's older form says file, and the reverse; `PATH_INVALID`
 * for a path that leads outside; `CAPTURE_FAILED` and `NAME_NOT_UTF8` as `capture` does.
 */
export async function captureActionOutputs(options: ActionOutputsOptions): Promise<ActionOutputs> {
  const { command, format = "tree" } = options;
  const reader = new FileReader(options);
  const dir = realFolder(options.dir);
  const place: Place = { reader, root: realFolder(options.root ?? options.dir), dir, format };
  const made: Writable<ActionOutputs> = {
    outputFiles: [],
    outputDirectories: [],
    outputSymlinks: [],
    outputFileSymlinks: [],
    outputDirectorySymlinks: [],
  };
  const asked: readonly (readonly [paths: readonly string[] | undefined, wanted: Wanted])[] = command.outputs.length > 0
    ? [[command.outputs, "any"]]
    : [[command.outputFiles, "file"], [command.outputDirectories, "directory"]];
  try {
    for (const [paths, wanted] of asked) {
      for (const path of new Set(paths)) {
        await take(place, path, wanted, made);
        if (reader.isTurnOver) await reader.rest();
      }
    }
    await reader.outbox.finish();
  } finally {
    await reader.outbox.settle();
  }
  return made;
}

/** Adds what is at a path to what was made. */
async function take(place: Place, path: string, wanted: Wanted, made: Writable<ActionOutputs>): Promise<void> {
  const { reader, root, dir } = place;
  const name = segmentsOf(path).join("/");
  const at = name === "" ? dir : `${dir}/${name}`;
  const stat = statOf(at);
  if (stat === undefined || (name !== "" && !isInside(root, dirname(at)))) return;
  if (stat.isSymbolicLink()) {
    const symlink = { path, target: readlinkSync(at) };
    if (wanted === "any") made.outputSymlinks.push(symlink);
    const isFolder = wanted === "directory" || (wanted === "any" && leadsToFolder(at));
    (isFolder ? made.outputDirectorySymlinks : made.outputFileSymlinks).push(symlink);
  } else if (stat.isDirectory()) {
    if (wanted === "file") throw otherwise(path, "a file", "a folder");
    made.outputDirectories.push(await directoryAt(place, path, at));
  } else if (stat.isFile()) {
    if (wanted === "directory") throw otherwise(path, "a folder", "a file");
    const read = await reader.read(at, path, stat);
    if (read !== undefined) {
      made.outputFiles.push({ path, digest: read.digest, executable: isExecutable(read.stat.mode) });
    }
  }
}

/** A folder with all that is in it, in the form that is wanted. */
async function directoryAt({ reader, format }: Place, path: string, at: string): Promise<OutputDirectory> {
  /** Children before parents, each once: reversed, every parent comes before its children. */
  const below = new Map<Digest, Uint8Array>();
  const nodes = await wholeFolder(reader, at, path, (digest, bytes) => {
    if (!below.has(digest)) below.set(digest, bytes);
  });
  const { digest: rootDirectory, bytes } = reader.add(nodes);
  if (format === "directory") return { path, rootDirectory, isTopologicallySorted: false };
  const encoded = encodeTree(bytes, [...below.values()].reverse());
  const tree = digestOf(encoded);
  reader.outbox.offer(tree, encoded, false);
  return { path, tree, ...(format === "both" ? { rootDirectory } : {}), isTopologicallySorted: true };
}

function isInside(root: string, folder: string): boolean {
  const real = realpathSync(folder);
  return real === root || real.startsWith(`${root}/`);
}

function leadsToFolder(at: string): boolean {
  try {
    return statSync(at).isDirectory();
  } catch {
    return false; // it leads nowhere
  }
}

const otherwise = (path: string, must: string, found: string): Fault =>
  new Fault("OUTPUT_INVALID", `Cannot capture output "${path}" as it must be ${must}: current value is ${found}`);
