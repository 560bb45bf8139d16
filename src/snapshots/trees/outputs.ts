import { lstatSync, type Stats } from "node:fs";
import type { Digest } from "../../domain/digest.ts";
import { Fault } from "../../domain/fault.ts";
import { compileGlob, type Glob, type GlobPlace, placesBelow } from "./output_glob.ts";
import { FileReader, listFolder, type Reading, realFolder, type SourceOptions, statOf } from "./read_files.ts";
import { refuseDepth, segmentsOf } from "./read_tree.ts";
import type { Node } from "./tree.ts";

export interface CaptureOutputsOptions extends SourceOptions {
  /**
   * Relative to the folder. Each is captured whole, whatever it is called; "" is the folder itself. One with `*`, `?` or
   * `[` is a glob unless something is at that very path: gitignore's, matched from the folder on, never through a
   * symlink; a folder that it matches is captured whole.
   */
  readonly paths: readonly string[];
}

/**
 * Captures the declared outputs of a task as a tree that has them, and nothing else, at their paths.
 *
 * @throws {Fault} `OUTPUT_MISSING` naming every path where no file, folder or symlink is, and every glob that matches
 * none; `PATH_INVALID` for a path or glob that leads outside, and for a path through a symlink; `CAPTURE_FAILED` and
 * `NAME_NOT_UTF8` as `capture` does.
 */
export async function captureOutputs(options: CaptureOutputsOptions): Promise<Digest> {
  return (await collect(options, true)).snapshot;
}

/** The same of what is there; undefined when nothing is. @throws {Fault} as {@link captureOutputs}, but for what is missing. */
export async function capturePresentOutputs(options: CaptureOutputsOptions): Promise<Digest | undefined> {
  const { snapshot, isSome } = await collect(options, false);
  return isSome ? snapshot : undefined;
}

/**
 * Refuses outputs that cannot be captured whatever is there.
 *
 * @throws {Fault} `PATH_INVALID` for a path or glob that leads outside, or a glob that can match nothing.
 */
export function checkOutputs(paths: readonly string[]): void {
  for (const path of paths) {
    segmentsOf(path);
    if (isGlob(path)) compileGlob(path);
  }
}

const isGlob = (path: string): boolean => /[*?[]/.test(path);

/** @param isStrict whether all must be there. */
async function collect(
  options: CaptureOutputsOptions,
  isStrict: boolean,
): Promise<{ readonly snapshot: Digest; readonly isSome: boolean }> {
  const dir = realFolder(options.dir);
  const walk = new OutputWalk(new FileReader(options), isStrict);
  const isThere = (path: string): boolean => statOf(`${dir}/${path}`) !== undefined;
  const globs: Glob[] = [];
  const paths: string[] = [];
  for (const path of options.paths) {
    const literal = segmentsOf(path).join("/");
    if (isGlob(path) && !isThere(literal)) globs.push(compileGlob(path));
    else paths.push(literal);
  }
  const { reader } = walk;
  try {
    const wanted = wantedTree(paths);
    const nodes = await walk.folder(dir, "", {
      isWhole: wanted.isWhole,
      wanted,
      globs: globs.map((glob) => ({ glob, at: glob.start })),
    }, 0);
    for (const glob of globs) if (!walk.matched.has(glob)) walk.missing.push(glob.text);
    if (isStrict && walk.missing.length > 0) throw outputsMissing(walk.missing);
    const { digest: snapshot } = reader.add(nodes);
    await reader.outbox.finish();
    return { snapshot, isSome: nodes.length > 0 || wanted.isWhole };
  } finally {
    await reader.outbox.settle();
  }
}

const outputsMissing = (paths: readonly string[]): Fault =>
  new Fault(
    "OUTPUT_MISSING",
    `Cannot capture the outputs as each must be a file, folder or symlink: ${
      paths.map((path) => `"${path}"`).join(", ")
    } ${paths.length === 1 ? "is" : "are"} not there`,
  );

/** Captures all of a folder, whatever its names: for an output that is a folder. */
export const wholeFolder = async (reader: FileReader, path: string, shown: string, made: DirectoryMade) =>
  await new OutputWalk(reader, true, made).folder(
    path,
    shown === "" ? "" : `${shown}/`,
    { isWhole: true, globs: [] },
    0,
  );

/** Told of each directory below, children first. */
export type DirectoryMade = (digest: Digest, bytes: Uint8Array) => void;

/** Declared paths by segments; `isWhole` where one ends. */
interface Wanted {
  isWhole: boolean;
  readonly children: Map<string, Wanted>;
}

function wantedTree(paths: readonly string[]): Wanted {
  const root: Wanted = { isWhole: false, children: new Map() };
  for (const path of paths) {
    let at = root;
    for (const segment of segmentsOf(path)) {
      let next = at.children.get(segment);
      if (next === undefined) at.children.set(segment, next = { isWhole: false, children: new Map() });
      at = next;
    }
    at.isWhole = true;
  }
  return root;
}

/** What is wanted of a folder: all of it, or what paths and globs name. Both count below what is wanted whole, too. */
interface Want {
  readonly isWhole: boolean;
  readonly wanted?: Wanted | undefined;
  readonly globs: readonly GlobPlace[];
}

class OutputWalk {
  readonly missing: string[] = [];
  readonly matched = new Set<Glob>();
  readonly reader: FileReader;
  #isStrict: boolean;
  #made: DirectoryMade;

  /** @param isStrict whether a path that leads through a symlink is refused; else it is missing. */
  constructor(reader: FileReader, isStrict: boolean, made: DirectoryMade = () => {}) {
    this.reader = reader;
    this.#isStrict = isStrict;
    this.#made = made;
  }

  /** The nodes of a folder. @param name relative to what is captured: "" or "dist/". */
  async folder(path: string, name: string, want: Want, depth: number): Promise<Node[]> {
    refuseDepth(depth, name);
    const { reader } = this;
    const { wanted } = want;
    const names = new Set(want.isWhole || want.globs.length > 0 ? listFolder(path, name) : []);
    for (const segment of wanted?.children.keys() ?? []) names.add(segment);
    const nodes: Node[] = [];
    const folders: { readonly name: string; readonly want: Want; readonly isAsked: boolean }[] = [];
    for (const segment of names) {
      const childName = name + segment;
      const below = wanted?.children.get(segment);
      const { places, ended } = placesBelow(want.globs, segment);
      const isWhole = want.isWhole || below?.isWhole === true || ended.length > 0;
      if (!isWhole && below === undefined && places.length === 0) continue;
      const childPath = `${path}/${segment}`;
      const stat = lstatSync(childPath, { throwIfNoEntry: false });
      if (stat?.isDirectory()) {
        for (const glob of ended) this.matched.add(glob);
        folders.push({
          name: segment,
          want: { isWhole, wanted: below, globs: places },
          isAsked: isWhole || below !== undefined,
        });
        continue;
      }
      if (below !== undefined) this.#refuseThrough(childName, below, stat);
      if (below !== undefined) this.missing.push(...missingEnds(childName, below, stat));
      if (!isWhole || stat === undefined) continue;
      if (stat.isSymbolicLink()) nodes.push(reader.link(childPath, childName, segment));
      else if (stat.isFile()) {
        const reading = reader.read(childPath, childName, stat);
        const read: Reading | undefined = reading instanceof Promise ? await reading : reading;
        if (read === undefined) {
          if (below?.isWhole) this.missing.push(childName);
          continue;
        }
        reader.addFile(nodes, segment, read.digest, read.stat);
        if (reader.isTurnOver) await reader.rest();
      } else continue; // a socket, pipe or device is no output
      for (const glob of ended) this.matched.add(glob);
    }
    for (const { name: segment, want: inner, isAsked } of folders) {
      const inside = await this.folder(`${path}/${segment}`, `${name}${segment}/`, inner, depth + 1);
      if (inside.length === 0 && !isAsked) continue; // a glob only looked into it
      const { digest, bytes } = reader.add(inside);
      this.#made(digest, bytes);
      nodes.push({ kind: "directory", name: segment, digest });
    }
    return nodes;
  }

  #refuseThrough(name: string, { children }: Wanted, stat: Stats | undefined): void {
    if (!this.#isStrict || children.size === 0 || !stat?.isSymbolicLink()) return;
    throw new Fault(
      "PATH_INVALID",
      `Cannot capture the outputs in "${name}" as it must be a folder: current value is a symlink`,
    );
  }
}

/** The declared outputs that are not there, at and below a path where no folder is. */
function* missingEnds(name: string, { isWhole, children }: Wanted, stat: Stats | undefined): Generator<string> {
  if (isWhole && !stat?.isFile() && !stat?.isSymbolicLink()) yield name;
  for (const [segment, below] of children) yield* missingEnds(`${name}/${segment}`, below, undefined);
}
