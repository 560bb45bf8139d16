import { readlinkSync, realpathSync, statSync } from "node:fs";
import { dirname } from "node:path";
import type { ActionResultData, OutputDirectory, OutputFile, OutputSymlink } from "../../domain/action_result.ts";
import type { CommandData } from "../../domain/command.ts";
import type { Digest } from "../../domain/digest.ts";
import { Fault } from "../../domain/fault.ts";
import { encodeTree } from "../../protocol/reapi/canonical.ts";
import { digestOf } from "../blobs/blobs.ts";
import { wholeFolder } from "./outputs.ts";
import { segmentsOf } from "./read_tree.ts";
import { FileReader, realFolder, type SourceOptions, statOf } from "./read_files.ts";

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

type Wanted = "any" | "file" | "directory";

/**
 * Captures the outputs of an action at exactly the paths that were asked for. Those that are not there are left out:
 * whoever asked knows which of them it needs. All of it is in the store when it resolves.
 *
 * @throws {Fault} `OUTPUT_INVALID` for a folder where the command's older form says file, and the reverse; `PATH_INVALID` for a path
 * that leads outside;
 * `CAPTURE_FAILED` and `NAME_NOT_UTF8` as `capture` does.
 */
export async function captureActionOutputs(options: ActionOutputsOptions): Promise<ActionOutputs> {
  const { command, format = "tree" } = options;
  const root = realFolder(options.root ?? options.dir);
  const dir = realFolder(options.dir);
  const reader = new FileReader(options);
  const files: OutputFile[] = [];
  const directories: OutputDirectory[] = [];
  const symlinks: OutputSymlink[] = [];
  const fileSymlinks: OutputSymlink[] = [];
  const directorySymlinks: OutputSymlink[] = [];

  const takeDirectory = async (path: string, at: string): Promise<void> => {
    /** Children before parents, each once: reversed, every parent comes before its children. */
    const below = new Map<Digest, Uint8Array>();
    const nodes = await wholeFolder(reader, at, path, (digest, bytes) => {
      if (!below.has(digest)) below.set(digest, bytes);
    });
    const { digest: rootDirectory, bytes } = reader.add(nodes);
    if (format === "directory") {
      directories.push({ path, rootDirectory, isTopologicallySorted: false });
      return;
    }
    const encoded = encodeTree(bytes, [...below.values()].reverse());
    const tree = digestOf(encoded);
    reader.outbox.offer(tree, encoded, false);
    directories.push({ path, tree, ...(format === "both" ? { rootDirectory } : {}), isTopologicallySorted: true });
  };
  const take = async (path: string, wanted: Wanted): Promise<void> => {
    const name = segmentsOf(path).join("/");
    const at = name === "" ? dir : `${dir}/${name}`;
    const stat = statOf(at);
    if (stat === undefined || (name !== "" && !isInside(root, dirname(at)))) return;
    if (stat.isSymbolicLink()) {
      const symlink = { path, target: readlinkSync(at) };
      if (wanted === "any") symlinks.push(symlink);
      const isFolder = wanted === "directory" || (wanted === "any" && leadsToFolder(at));
      (isFolder ? directorySymlinks : fileSymlinks).push(symlink);
    } else if (stat.isDirectory()) {
      if (wanted === "file") throw otherwise(path, "a file", "a folder");
      await takeDirectory(path, at);
    } else if (stat.isFile()) {
      if (wanted === "directory") throw otherwise(path, "a folder", "a file");
      const reading = await reader.read(at, path, stat);
      if (reading === undefined) return;
      files.push({ path, digest: reading.digest, executable: (reading.stat.mode & 0o111) !== 0 });
    }
    if (reader.isTurnOver) await reader.rest();
  };

  try {
    for (const path of new Set(command.outputs)) await take(path, "any");
    if (command.outputs.length === 0) {
      for (const path of new Set(command.outputFiles)) await take(path, "file");
      for (const path of new Set(command.outputDirectories)) await take(path, "directory");
    }
    await reader.outbox.finish();
  } finally {
    await reader.outbox.settle();
  }
  return {
    outputFiles: files,
    outputDirectories: directories,
    outputSymlinks: symlinks,
    outputFileSymlinks: fileSymlinks,
    outputDirectorySymlinks: directorySymlinks,
  };
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
