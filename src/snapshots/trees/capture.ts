import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { lstatSync, readdirSync, readFileSync, readlinkSync, realpathSync, type Stats } from "node:fs";
import { relative } from "node:path";
import { type Digest, digestOfHash, sizeOf } from "../../domain/digest.ts";
import { Fault, isFault } from "../../domain/fault.ts";
import { compareUtf8 } from "../../protocol/reapi/wire.ts";
import { encodeDirectory } from "../../protocol/reapi/canonical.ts";
import type { Clock } from "../../runtime/clock.ts";
import { type Blobs, digestOf } from "../blobs/blobs.ts";
import type { GitEnvironment } from "./git_config.ts";
import { byteText, type IgnoreRules, isIgnored } from "./git_ignore.ts";
import { findRepository, type GitRepository, readFolderRules, repositoryAt, rulesAbove } from "./git_repository.ts";
import { CacheMistaken, fileStart, Outbox, type PutFile, wholeBytesMax } from "./outbox.ts";
import { refuseDepth, segmentsOf } from "./read_tree.ts";
import { isSameStat, readStatCache, StatCacheWriter } from "./stat_cache.ts";
import type { CaptureReport, Node } from "./tree.ts";

export interface CaptureProgress {
  readonly files: number;
  readonly bytes: number;
  readonly sentBytes: number;
}

interface SourceOptions {
  /** The folder to capture. A symlink to a folder will do. */
  readonly dir: string;
  readonly blobs: Blobs;
  readonly clock: Clock;
  /** The store's own way to take a large file, if it has one; without, the file is read as a stream. */
  readonly putFile?: PutFile;
  /** A way to hash large files beside this thread. */
  readonly hashFile?: (path: string) => Promise<Digest>;
  readonly signal?: AbortSignal;
}

export interface CaptureOptions extends SourceOptions {
  /**
   * Whether git's ignore rules count, as they do by default: those of the folder, of the repository around it, and the
   * user's. Files that are tracked although ignored are captured.
   */
  readonly ignoreRules?: boolean;
  /** Paths relative to the folder that are captured whatever the rules say, folders with all that is in them. */
  readonly include?: readonly string[];
  /** Where the user's own git configuration is looked for; without, only the repository's counts. */
  readonly environment?: GitEnvironment;
  /** A file that remembers what was read, so that the next capture reads only what has changed. */
  readonly indexPath?: string;
  /** Called now and then, at most once for every 64 files. */
  readonly onProgress?: (progress: CaptureProgress) => void;
}

/** A file that changes under the reader is read so often at most. */
const readingsMax = 4;
/** After so many bytes or files the reader lets others run. */
const turnBytes = 1024 * 1024;
const turnFilesRead = 64;
const turnFilesSeen = 2000;
const leftOutNamesMax = 20;

/**
 * Captures a folder as a snapshot: its files, symlinks as they are, empty folders.
 *
 * Never captured: `.git`, names that start with `.env` unless `include` names them, and sockets, pipes and devices. A
 * repository inside of another is captured by its own rules if it is a submodule and left out if it is not tracked, as
 * git has it. A folder in which everything is left out is left out. The folder itself always counts, even if a
 * repository around it ignores it.
 *
 * Memory is bounded by the number of files, not by their bytes. When it resolves, the store holds everything.
 *
 * @throws {Fault} `NAME_NOT_UTF8`, `CAPTURE_FAILED` naming the file, `PATH_UNKNOWN` for an included path that is not
 * there, `PATH_INVALID` for one outside, and whatever the store throws. The signal's reason when it is aborted.
 */
export async function capture(options: CaptureOptions): Promise<CaptureReport> {
  try {
    return await captureOnce(options, options.indexPath);
  } catch (error) {
    if (!(error instanceof CacheMistaken)) throw error;
    return await captureOnce(options, undefined);
  }
}

/** @param cachePath where to read what is known from; the new knowledge is kept at `options.indexPath` anyway. */
async function captureOnce(options: CaptureOptions, cachePath: string | undefined): Promise<CaptureReport> {
  const startedAtMs = options.clock.now();
  const dir = realFolder(options.dir);
  const named = namedPaths(dir, options.include ?? []);
  const cacheOf = `${lstatSync(dir).dev} ${dir}`;
  const cache = cachePath === undefined ? undefined : readStatCache(cachePath, cacheOf);
  const writer = options.indexPath === undefined ? undefined : new StatCacheWriter(startedAtMs);
  const run = new Run(options, named, cache, writer);
  const isRuled = options.ignoreRules ?? true;
  const repository = isRuled ? findRepository(dir, options.environment ?? {}) : undefined;
  const base = repository === undefined ? "" : byteText(relative(repository.top, dir));
  let snapshot: Digest;
  try {
    const root = await run.visit({
      path: dir,
      name: "",
      depth: 0,
      rule: isRuled ? "ruled" : "whole",
      repository,
      base: base === "" ? "" : `${base}/`,
      rules: repository === undefined ? [] : rulesAbove(repository, dir),
    });
    snapshot = run.add(root ?? []);
    await run.outbox.finish();
  } finally {
    await run.outbox.settle();
  }
  if (writer !== undefined && (run.filesRead > 0 || writer.entries !== cache?.entries)) {
    await writer.save(options.indexPath!, cacheOf);
  }
  run.progress();
  return {
    snapshot,
    files: run.files,
    bytes: run.bytes,
    sentFiles: run.outbox.sentFiles,
    sentBytes: run.outbox.sentBytes,
    leftOut: run.leftOut.flat().slice(0, leftOutNamesMax),
    leftOutCount: run.leftOutCount,
    changedWhileRead: [...run.changed],
    tookMs: options.clock.now() - startedAtMs,
  };
}

export interface CaptureOutputsOptions extends SourceOptions {
  /** Relative to the folder. Each is captured whole, whatever it is called; "" is the folder itself. */
  readonly paths: readonly string[];
}

/**
 * Captures the declared outputs of a task as a tree that has them, and nothing else, at their paths.
 *
 * @throws {Fault} `OUTPUT_MISSING` naming every path where no file, folder or symlink is; `PATH_INVALID` for a path
 * that leads outside or through a symlink; otherwise as {@link capture}.
 */
export async function captureOutputs(options: CaptureOutputsOptions): Promise<Digest> {
  const dir = realFolder(options.dir);
  const run = new Run(options, { paths: new Set(), folders: new Set() }, undefined, undefined);
  const wanted = wantedTree(options.paths);
  const missing: string[] = [];
  try {
    const nodes = await run.visitWanted(dir, "", wanted, missing, 0);
    if (missing.length > 0) {
      throw new Fault(
        "OUTPUT_MISSING",
        `Cannot capture the outputs as each must be a file, folder or symlink: ${
          missing.map((path) => `"${path}"`).join(", ")
        } ${missing.length === 1 ? "is" : "are"} not there`,
      );
    }
    const snapshot = run.add(nodes);
    await run.outbox.finish();
    return snapshot;
  } finally {
    await run.outbox.settle();
  }
}

/** Declared outputs by segments; `isWhole` where one ends. */
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

interface NamedPaths {
  readonly paths: ReadonlySet<string>;
  /** Every folder that a named path is in. */
  readonly folders: ReadonlySet<string>;
}

function namedPaths(dir: string, include: readonly string[]): NamedPaths {
  const paths = new Set<string>();
  const folders = new Set<string>();
  for (const given of include) {
    const segments = segmentsOf(given);
    const path = segments.join("/");
    if (lstatSync(`${dir}/${path}`, { throwIfNoEntry: false }) === undefined) {
      throw new Fault("PATH_UNKNOWN", `Cannot include "${given}": nothing is there in ${dir}`);
    }
    paths.add(path);
    for (let i = 1; i < segments.length; i++) folders.add(segments.slice(0, i).join("/"));
  }
  return { paths, folders };
}

/**
 * By what the contents of a folder are chosen: `ruled` by the ignore rules; `whole` all, except what is never captured;
 * `tracked` only what is tracked or named (the folder is ignored); `named` only what is named; `exact` all there is.
 */
type Rule = "ruled" | "whole" | "tracked" | "named" | "exact";

interface Folder {
  readonly path: string;
  /** Relative to what is captured: "" or "src/web/". */
  readonly name: string;
  readonly depth: number;
  readonly rule: Rule;
  readonly repository: GitRepository | undefined;
  /** Byte text of the path from the repository's top: "" or "src/web/". */
  readonly base: string;
  /** Of the folders above, nearest first, and of the repository. */
  readonly rules: readonly IgnoreRules[];
}

interface Reading {
  readonly digest: Digest;
  /** After it was read. */
  readonly stat: Stats;
  /** Whether it was the same before. */
  readonly isStill: boolean;
}

/** One walk through a folder. Reads synchronously, which is several times quicker than not, and takes turns. */
class Run {
  readonly outbox: Outbox;
  readonly changed = new Set<string>();
  /** Strange things, hidden things, folders, files: the most notable first. */
  readonly leftOut: [string[], string[], string[], string[]] = [[], [], [], []];
  leftOutCount = 0;
  files = 0;
  bytes = 0;
  filesRead = 0;
  #options: CaptureOptions;
  #named: NamedPaths;
  #cache: ReturnType<typeof readStatCache> | undefined;
  #writer: StatCacheWriter | undefined;
  #turnBytes = 0;
  #turnFilesRead = 0;
  #turnFilesSeen = 0;

  constructor(
    options: CaptureOptions,
    named: NamedPaths,
    cache: ReturnType<typeof readStatCache> | undefined,
    writer: StatCacheWriter | undefined,
  ) {
    this.#options = options;
    this.#named = named;
    this.#cache = cache;
    this.#writer = writer;
    this.outbox = new Outbox(options);
  }

  progress(): void {
    this.#options.onProgress?.({ files: this.files, bytes: this.bytes, sentBytes: this.outbox.sentBytes });
  }

  /** Encodes a directory and offers it to the store. */
  add(nodes: readonly Node[]): Digest {
    const bytes = encodeDirectory(nodes);
    const digest = digestOf(bytes);
    this.outbox.offer(digest, bytes, false);
    return digest;
  }

  /** The nodes of a folder, or undefined when it is not to be captured: something was in it and all was left out. */
  async visit(folder: Folder): Promise<Node[] | undefined> {
    const names = listFolder(folder.path, folder.name);
    const within = folder.rule === "ruled" && names.includes(".git") ? this.#nested(folder) : folder;
    if (within === undefined) return undefined;
    const own = within.rule === "ruled" && names.includes(".gitignore")
      ? readFolderRules(within.path, within.base, within.repository?.isCaseIgnored ?? false)
      : undefined;
    const rules = own === undefined ? within.rules : [own, ...within.rules];
    const cached = this.#cache?.folder(within.name);
    const nodes: Node[] = [];
    const folders: Folder[] = [];
    let isSomeLeftOut = within.rule === "tracked" || within.rule === "named";
    this.#writer?.folder(within.name);
    for (const name of names) {
      const path = `${within.path}/${name}`;
      const relativePath = within.name + name;
      const stat = lstatSync(path, { throwIfNoEntry: false });
      if (stat === undefined) {
        this.changed.add(relativePath); // it was there a moment ago
        continue;
      }
      const isFolder = stat.isDirectory();
      const rule = this.#ruleOf(within, rules, name, isFolder);
      if (rule === undefined) {
        isSomeLeftOut = true;
        if (within.rule !== "named" && within.rule !== "tracked") this.#leaveOut(name, relativePath, isFolder);
      } else if (stat.isFile()) {
        this.#turnFilesSeen++;
        const known = cached?.find(name, stat);
        if (known !== undefined) {
          this.#addFile(nodes, name, known, stat);
          this.outbox.offerKnown(known, path);
          this.#writer?.add(name, stat, known);
        } else {
          const read = stat.size > wholeBytesMax
            ? await this.#readLarge(path, relativePath)
            : this.#read(path, relativePath, stat);
          if (read !== undefined) {
            this.#addFile(nodes, name, read.digest, read.stat);
            if (read.isStill) this.#writer?.add(name, read.stat, read.digest);
          }
        }
        if (this.#isTurnOver()) await this.#yield();
      } else if (isFolder) {
        refuseDepth(within.depth + 1, relativePath);
        folders.push({
          ...within,
          path,
          name: `${relativePath}/`,
          depth: within.depth + 1,
          rule,
          base: `${within.base}${byteText(name)}/`,
          rules,
        });
      } else if (stat.isSymbolicLink()) nodes.push({ kind: "symlink", name, target: linkTarget(path, relativePath) });
      else this.#note(0, relativePath);
    }
    for (const sub of folders) {
      const subNodes = await this.visit(sub);
      if (subNodes === undefined) {
        isSomeLeftOut = true;
        continue;
      }
      nodes.push({ kind: "directory", name: sub.name.slice(within.name.length, -1), digest: this.add(subNodes) });
    }
    return nodes.length === 0 && isSomeLeftOut ? undefined : nodes;
  }

  /** The nodes of a folder that holds declared outputs. */
  async visitWanted(path: string, name: string, wanted: Wanted, missing: string[], depth: number): Promise<Node[]> {
    const exact = { rule: "exact", repository: undefined, base: "", rules: [] } as const;
    refuseDepth(depth, name);
    if (wanted.isWhole) {
      this.#noteMissing(path, name, wanted, missing);
      return await this.visit({ ...exact, path, name, depth }) ?? [];
    }
    const nodes: Node[] = [];
    for (const [segment, below] of wanted.children) {
      const childPath = `${path}/${segment}`;
      const childName = name + segment;
      const stat = lstatSync(childPath, { throwIfNoEntry: false });
      if (stat?.isDirectory()) {
        const inside = await this.visitWanted(childPath, `${childName}/`, below, missing, depth + 1);
        nodes.push({ kind: "directory", name: segment, digest: this.add(inside) });
        continue;
      }
      refuseThrough(childName, below, stat);
      missing.push(...missingEnds(childName, below, stat));
      if (!below.isWhole) continue;
      if (stat?.isSymbolicLink()) {
        nodes.push({ kind: "symlink", name: segment, target: linkTarget(childPath, childName) });
      } else if (stat?.isFile()) {
        const read = stat.size > wholeBytesMax
          ? await this.#readLarge(childPath, childName)
          : this.#read(childPath, childName, stat);
        if (read === undefined) missing.push(childName);
        else this.#addFile(nodes, segment, read.digest, read.stat);
        if (this.#isTurnOver()) await this.#yield();
      }
    }
    return nodes;
  }

  /** Finds what is declared inside of a folder that is captured whole, and not there. */
  #noteMissing(path: string, name: string, { children }: Wanted, missing: string[]): void {
    for (const [segment, below] of children) {
      const childName = name + segment;
      const stat = lstatSync(`${path}/${segment}`, { throwIfNoEntry: false });
      refuseThrough(childName, below, stat);
      if (stat?.isDirectory()) this.#noteMissing(`${path}/${segment}`, `${childName}/`, below, missing);
      else missing.push(...missingEnds(childName, below, stat));
    }
  }

  /** A folder that has a `.git`: another repository begins here, or undefined when it is not to be captured. */
  #nested(folder: Folder): Folder | undefined {
    const { repository } = folder;
    if (folder.depth === 0) return folder;
    const name = folder.base.slice(0, -1);
    if (repository?.tracked().folders.has(name)) return folder;
    const nested = repositoryAt(folder.path, this.#options.environment ?? {});
    if (nested === undefined) return folder;
    if (repository === undefined || repository.tracked().repositories.has(name)) {
      return { ...folder, repository: nested, base: "", rules: nested.rules };
    }
    this.#note(0, folder.name.slice(0, -1));
    return undefined;
  }

  /** By what rule an entry is captured, or undefined when it is left out. */
  #ruleOf(folder: Folder, rules: readonly IgnoreRules[], name: string, isFolder: boolean): Rule | undefined {
    if (folder.rule === "exact") return "exact";
    if (name === ".git") return undefined;
    const isNamedAtAll = this.#named.paths.size > 0;
    const path = isNamedAtAll ? folder.name + name : "";
    if (isNamedAtAll && this.#named.paths.has(path)) return "whole";
    const isNamedInside = isNamedAtAll && isFolder && this.#named.folders.has(path);
    const namedInside = isNamedInside ? "named" : undefined;
    if (name.startsWith(".env")) return namedInside;
    if (folder.rule === "whole") return "whole";
    if (folder.rule === "named") return namedInside;
    if (folder.rule === "ruled" && rules.length === 0) return "ruled";
    const gitPath = folder.base + byteText(name);
    if (folder.rule === "ruled" && !isIgnored(rules, gitPath, folder.base.length, isFolder)) return "ruled";
    const tracked = folder.repository?.tracked();
    if (!isFolder) return tracked?.files.has(gitPath) ? "tracked" : undefined;
    if (tracked?.repositories.has(gitPath)) return "ruled";
    return tracked?.folders.has(gitPath) ? "tracked" : namedInside;
  }

  #leaveOut(name: string, path: string, isFolder: boolean): void {
    this.#note(name === ".git" || name.startsWith(".env") ? 1 : isFolder ? 2 : 3, path);
  }

  #note(rank: 0 | 1 | 2 | 3, path: string): void {
    this.leftOutCount++;
    if (this.leftOut[rank].length < leftOutNamesMax) this.leftOut[rank].push(path);
  }

  #addFile(nodes: Node[], name: string, digest: Digest, { mode }: Stats): void {
    this.files++;
    this.bytes += sizeOf(digest);
    nodes.push({ kind: "file", name, digest, executable: (mode & 0o111) !== 0 });
  }

  /** Reads a file whole and offers it; undefined when it is gone. */
  #read(path: string, name: string, seen: Stats): Reading | undefined {
    let before = seen;
    for (let reading = 1;; reading++) {
      let bytes: Buffer;
      try {
        bytes = readFileSync(path);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw unreadable(name, error);
        this.changed.add(name);
        return undefined;
      }
      const after = lstatSync(path, { throwIfNoEntry: false });
      const isStill = after !== undefined && isSameStat(before, after) && bytes.length === after.size;
      if (!isStill) this.changed.add(name);
      if (!isStill && after?.isFile() && reading < readingsMax) {
        before = after;
        continue;
      }
      if (after !== undefined && !after.isFile()) return undefined; // something else now: as good as gone
      const digest = digestOf(bytes);
      this.outbox.offer(digest, bytes, true);
      this.#turnBytes += bytes.length;
      this.#turnFilesRead++;
      this.filesRead++;
      return { digest, stat: after ?? before, isStill };
    }
  }

  /**
   * Reads a file in chunks, twice if the store lacks it; undefined when it is gone. Of a file that never stops growing,
   * the beginning is captured as it was at one look.
   */
  async #readLarge(path: string, name: string): Promise<Reading | undefined> {
    const { signal } = this.#options;
    for (let reading = 1;; reading++) {
      try {
        const before = lstatSync(path);
        const hashFile = this.#options.hashFile ?? ((from) => hashStart(from, before.size, signal));
        const digest = await hashFile(path);
        const after = lstatSync(path);
        const isStill = isSameStat(before, after);
        signal?.throwIfAborted();
        if (!isStill) {
          this.changed.add(name);
          if (reading < readingsMax) continue;
        }
        await this.outbox.sendLarge(digest, path, isStill);
        this.filesRead++;
        return { digest, stat: after, isStill };
      } catch (error) {
        signal?.throwIfAborted();
        const isGone = (error as NodeJS.ErrnoException).code === "ENOENT";
        if (isGone || isFault(error, "BLOB_CORRUPT")) this.changed.add(name);
        if (isGone) return undefined;
        if (error instanceof Fault && !isFault(error, "BLOB_CORRUPT")) throw error;
        if (!(error instanceof Fault)) throw unreadable(name, error);
        if (reading < readingsMax) continue;
        throw new Fault(
          "CAPTURE_FAILED",
          `Cannot capture "${name}" as it must hold still while it is read: it changed ${readingsMax} times`,
          { cause: error },
        );
      }
    }
  }

  #isTurnOver(): boolean {
    return this.#turnFilesRead >= turnFilesRead || this.#turnBytes >= turnBytes || this.#turnFilesSeen >= turnFilesSeen;
  }

  async #yield(): Promise<void> {
    this.#turnBytes = 0;
    this.#turnFilesRead = 0;
    this.#turnFilesSeen = 0;
    this.progress();
    await new Promise((resolve) => setImmediate(resolve));
    this.#options.signal?.throwIfAborted();
    await this.outbox.room();
  }
}

/** The declared outputs that are not there, at and below a path where no folder is. */
function* missingEnds(name: string, { isWhole, children }: Wanted, stat: Stats | undefined): Generator<string> {
  if (isWhole && !stat?.isFile() && !stat?.isSymbolicLink()) yield name;
  for (const [segment, below] of children) yield* missingEnds(`${name}/${segment}`, below, undefined);
}

function refuseThrough(name: string, { children }: Wanted, stat: Stats | undefined): void {
  if (children.size === 0 || !stat?.isSymbolicLink()) return;
  throw new Fault(
    "PATH_INVALID",
    `Cannot capture the outputs in "${name}" as it must be a folder: current value is a symlink`,
  );
}

function realFolder(dir: string): string {
  try {
    const real = realpathSync(dir);
    if (lstatSync(real).isDirectory()) return real;
  } catch (error) {
    throw new Fault("PATH_UNKNOWN", `Cannot capture ${dir} as it must be a folder: ${(error as Error).message}`, {
      cause: error,
    });
  }
  throw new Fault("PATH_INVALID", `Cannot capture ${dir} as it must be a folder: current value is a file`);
}

async function hashStart(path: string, length: number, signal: AbortSignal | undefined): Promise<Digest> {
  const hash = createHash("sha256");
  let size = 0;
  for await (const chunk of fileStart(path, length)) {
    signal?.throwIfAborted();
    hash.update(chunk);
    size += chunk.length;
  }
  return digestOfHash(hash.digest("hex"), size);
}

const unreadable = (name: string, error: unknown): Fault =>
  new Fault("CAPTURE_FAILED", `Cannot capture "${name}" as it must be readable: ${(error as Error).message}`, {
    cause: error,
  });

/** Stands for what is not UTF-8 in a name that a runtime made text of. */
const replacement = "\ufffd";

const notUtf8 = (name: Buffer): Fault => {
  const shown = name.toString("latin1").replace(
    /[^\x20-\x7e]/g,
    (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, "0")}`,
  );
  return new Fault("NAME_NOT_UTF8", `Cannot capture "${shown}" as its name must be UTF-8: current value is not`);
};

/** The names in a folder, in byte order. */
function listFolder(path: string, folderName: string): string[] {
  let names: string[];
  try {
    names = readdirSync(path);
  } catch (error) {
    throw unreadable(folderName === "" ? path : folderName, error);
  }
  if (names.some((name) => name.includes(replacement))) refuseMangled(path, folderName, names);
  return names.sort(compareUtf8);
}

/** Tells names that truly have a U+FFFD from those that were made to have one. */
function refuseMangled(path: string, folderName: string, names: readonly string[]): void {
  for (const name of readdirSync(path, { encoding: "buffer" })) {
    if (!Buffer.from(name.toString("utf8")).equals(name)) throw notUtf8(Buffer.concat([Buffer.from(folderName), name]));
  }
  // Deno tells no bytes, even then. A mangled name is of no file, or of one that is listed beside it.
  for (const name of names) {
    if (!name.includes(replacement)) continue;
    const isThere = lstatSync(`${path}/${name}`, { throwIfNoEntry: false }) !== undefined;
    if (!isThere || names.indexOf(name) !== names.lastIndexOf(name)) throw notUtf8(Buffer.from(folderName + name));
  }
}

/** Where a symlink leads, as it says. */
function linkTarget(path: string, name: string): string {
  try {
    const target = readlinkSync(path);
    if (!target.includes(replacement)) return target;
    const raw: unknown = readlinkSync(path, { encoding: "buffer" });
    // Deno gives text here, too; but it has thrown by now if that were not what the link says.
    if (!(raw instanceof Uint8Array) || Buffer.from(target).equals(raw)) return target;
  } catch (error) {
    // Deno throws an error without a code for a target that is no UTF-8.
    if ((error as NodeJS.ErrnoException).code !== undefined) throw unreadable(name, error);
  }
  throw new Fault(
    "NAME_NOT_UTF8",
    `Cannot capture the symlink "${name}" as its target must be UTF-8: current value is not`,
  );
}
