import { Buffer } from "node:buffer";
import { closeSync, lstatSync, openSync, readSync, type Stats } from "node:fs";
import { relative } from "node:path";
import type { Digest } from "../../domain/digest.ts";
import { Fault } from "../../domain/fault.ts";
import { isBeside } from "./beside.ts";
import type { GitEnvironment } from "./git_config.ts";
import { byteText, type IgnoreRules, ruleOn } from "./git_ignore.ts";
import { findRepository, type GitRepository, readFolderRules, repositoryAt, rulesAbove } from "./git_repository.ts";
import { collisionsIn } from "./name_collisions.ts";
import { CacheMistaken } from "./outbox.ts";
import { isKeyText, isPrivateName, isPrivateWhenKey } from "./private_keys.ts";
import {
  FileReader,
  isExecutable,
  listFolder,
  type Reading,
  realFolder,
  type SourceOptions,
  statOf,
} from "./read_files.ts";
import { refuseDepth, segmentsOf } from "./read_tree.ts";
import { KnownFiles, readStatCache, type StatCache, type StatCacheFolder, StatCacheWriter } from "./stat_cache.ts";
import type { CaptureReport, Node } from "./tree.ts";

export interface CaptureOptions extends SourceOptions {
  /**
   * Whether git's ignore rules count, as they do by default: those of the folder, of the repository around it, and the
   * user's. Files that are tracked although ignored are captured. On top of them count `.scootignore` files, which have
   * the same syntax: what they ignore is left out even if it is tracked, what they take back (`!dist`) is captured.
   */
  readonly ignoreRules?: boolean;
  /** Paths relative to the folder that are captured whatever the rules say, folders with all that is in them. */
  readonly include?: readonly string[];
  /** Where the user's own git configuration is looked for; without, only the repository's counts. */
  readonly environment?: GitEnvironment;
  /** A file that remembers what was read, so that the next capture reads only what has changed. */
  readonly indexPath?: string;
  /**
   * Whether the store has everything of a snapshot, and keeps it from being collected soon. With it, a capture that
   * finds most as it was asks this once, instead of asking after every file's blob.
   */
  readonly holdsTree?: (snapshot: Digest) => Promise<boolean>;
}

const leftOutNamesMax = 20;
/** A private key says what it is in its first bytes, or after a few lines about it. */
const keyStartBytes = 4096;

/**
 * Captures a folder as a snapshot: its files, symlinks as they are, empty folders.
 *
 * Never captured: `.git`; what bringing back left when it was cut off; names that start with `.env` and private keys (`id_rsa`, `.ssh`, `*.pem` with a key in it, …),
 * unless `include` names them; and sockets, pipes and devices. A repository inside of another is captured by its own rules if it is a submodule and left out if it is not tracked, as
 * git has it. A folder in which everything is left out is left out. The folder itself always counts, even if a
 * repository around it ignores it.
 *
 * Memory is bounded by the number of files, not by their bytes. When it resolves, the store holds everything.
 *
 * @throws {Fault} `NAME_NOT_UTF8`, `CAPTURE_FAILED` naming the file, `PATH_UNKNOWN` for an included path that is not
 * there, `PATH_INVALID` for one outside or that is a socket, pipe or device, and whatever the store throws. The signal's reason when it is aborted.
 */
export async function capture(options: CaptureOptions): Promise<CaptureReport> {
  let { holdsTree } = options;
  let indexPath = options.indexPath;
  for (;;) {
    try {
      return await captureOnce(options, indexPath, holdsTree);
    } catch (error) {
      if (error instanceof StoreLacks) holdsTree = undefined;
      else if (error instanceof CacheMistaken) indexPath = undefined;
      else throw error;
    }
  }
}

/** Thrown when the store has not all of what was captured last, so that it must be asked after each file. */
class StoreLacks extends Error {}

/** @param cachePath where to read what is known from; the new knowledge is kept at `options.indexPath` anyway. */
async function captureOnce(
  options: CaptureOptions,
  cachePath: string | undefined,
  holdsTree: CaptureOptions["holdsTree"],
): Promise<CaptureReport> {
  const startedAtMs = options.clock.now();
  const dir = realFolder(options.dir);
  const named = namedPaths(dir, options.include ?? []);
  const cacheOf = `${lstatSync(dir).dev} ${dir}`;
  const cache = cachePath === undefined ? undefined : readStatCache(cachePath, cacheOf);
  const writer = options.indexPath === undefined ? undefined : new StatCacheWriter(startedAtMs);
  const known = cache?.snapshot;
  const isKnownHeld = known === undefined ? undefined : holdsTree?.(known); // the answer comes while files are looked at
  isKnownHeld?.catch(() => {}); // who waits for it throws it
  const run = new Run(options, { isKnownOffered: isKnownHeld === undefined, named, cache, writer });
  const isRuled = options.ignoreRules ?? true;
  const repository = isRuled ? findRepository(dir, options.environment ?? {}) : undefined;
  const above = repository === undefined ? "" : byteText(relative(repository.top, dir));
  const base = above === "" ? "" : `${above}/`;
  let snapshot: Digest;
  try {
    const root = await run.visit({
      path: dir,
      name: "",
      depth: 0,
      rule: isRuled ? "ruled" : "whole",
      repository,
      base,
      rules: repository === undefined ? [] : [...rulesAbove(repository, dir, ".gitignore"), ...repository.rules],
      ownBase: base,
      ownRules: repository === undefined ? [] : rulesAbove(repository, dir, ".scootignore"),
    });
    snapshot = root?.digest ?? run.reader.add([]).digest;
    if (await isKnownHeld === false) throw new StoreLacks();
    await run.reader.outbox.finish();
  } finally {
    await run.reader.outbox.settle();
  }
  const { reader } = run;
  if (writer !== undefined && (reader.filesRead > 0 || writer.entries !== cache?.entries || snapshot !== known)) {
    await writer.save(options.indexPath!, cacheOf, snapshot);
  }
  reader.progress();
  return {
    snapshot,
    files: reader.files,
    bytes: reader.bytes,
    sentFiles: reader.outbox.sentFiles,
    sentBytes: reader.outbox.sentBytes,
    leftOut: run.leftOut.flat().slice(0, leftOutNamesMax),
    leftOutCount: run.leftOutCount,
    privateKeys: run.privateKeys,
    collisions: run.collisions,
    changedWhileRead: [...reader.changed],
    tookMs: options.clock.now() - startedAtMs,
  };
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
    const stat = statOf(`${dir}/${path}`);
    if (stat === undefined) throw new Fault("PATH_UNKNOWN", `Cannot include "${given}": nothing is there in ${dir}`);
    if (!stat.isFile() && !stat.isDirectory() && !stat.isSymbolicLink()) {
      throw new Fault(
        "PATH_INVALID",
        `Cannot include "${given}" as it must be a file, folder or symlink: current value is a ${specialKind(stat)}`,
      );
    }
    paths.add(path);
    for (let i = 1; i < segments.length; i++) folders.add(segments.slice(0, i).join("/"));
  }
  return { paths, folders };
}

const specialKind = (stat: Stats): string => stat.isSocket() ? "socket" : stat.isFIFO() ? "pipe" : "device";

/**
 * By what the contents of a folder are chosen: `ruled` by the ignore rules; `whole` all, except what is never captured;
 * `tracked` only what is tracked or named (the folder is ignored); `named` only what is named.
 */
type Rule = "ruled" | "whole" | "tracked" | "named";

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
  /** The same for `.scootignore`, from the top of the outermost repository. */
  readonly ownBase: string;
  readonly ownRules: readonly IgnoreRules[];
}

interface Knowledge {
  /** Whether the store is asked after what the cache knows; else it has all of it. */
  readonly isKnownOffered: boolean;
  readonly named: NamedPaths;
  readonly cache: StatCache | undefined;
  readonly writer: StatCacheWriter | undefined;
}

/** What a folder was captured as. */
interface Visited {
  readonly digest: Digest;
  /** Whether it is what the cache knows, with all below it. */
  readonly isAsKnown: boolean;
}

function* nodesOf({ names, entries, modes }: KnownFiles, cached: StatCacheFolder): Generator<Node> {
  for (const [place, name] of names.entries()) {
    const executable = isExecutable(modes[place]!);
    yield { kind: "file", name, digest: cached.digestOf(entries[place]!), executable };
  }
}

/** One walk through a folder. */
class Run {
  readonly reader: FileReader;
  /** Strange things, hidden things, folders, files: the most notable first. */
  readonly leftOut: [string[], string[], string[], string[]] = [[], [], [], []];
  leftOutCount = 0;
  readonly privateKeys: string[] = [];
  readonly collisions: (readonly [string, string])[] = [];
  #options: CaptureOptions;
  #isKnownOffered: boolean;
  #named: NamedPaths;
  #cache: StatCache | undefined;
  #writer: StatCacheWriter | undefined;

  constructor(options: CaptureOptions, { isKnownOffered, named, cache, writer }: Knowledge) {
    this.#options = options;
    this.#isKnownOffered = isKnownOffered;
    this.#named = named;
    this.#cache = cache;
    this.#writer = writer;
    this.reader = new FileReader(options);
  }

  /** Captures a folder; undefined when it is not to be captured: something was in it and all was left out. */
  async visit(folder: Folder): Promise<Visited | undefined> {
    const { reader } = this;
    if (folder.depth > 0 && statOf(folder.path) === undefined) {
      reader.changed.add(folder.name.slice(0, -1)); // it was there a moment ago
      return undefined;
    }
    const names = listFolder(folder.path, folder.name);
    const within = folder.rule === "ruled" && names.includes(".git") ? this.#nested(folder) : folder;
    if (within === undefined) return undefined;
    const own = within.rule === "ruled" && names.includes(".gitignore")
      ? readFolderRules(within.path, within.base, within.repository?.isCaseIgnored ?? false)
      : undefined;
    const rules = own === undefined ? within.rules : [own, ...within.rules];
    const onTop = within.rule === "ruled" && names.includes(".scootignore")
      ? readFolderRules(within.path, within.ownBase, false, ".scootignore")
      : undefined;
    const ownRules = onTop === undefined ? within.ownRules : [onTop, ...within.ownRules];
    const cached = this.#cache?.folder(within.name);
    const known = new KnownFiles();
    /** All others. */
    const nodes: Node[] = [];
    const folders: Folder[] = [];
    let isSomeLeftOut = within.rule === "tracked" || within.rule === "named";
    const written = this.#writer?.folder(within.name, known, cached);
    for (const name of names) {
      const path = `${within.path}/${name}`;
      const relativePath = within.name + name;
      const stat = lstatSync(path, { throwIfNoEntry: false });
      if (stat === undefined) {
        reader.changed.add(relativePath); // it was there a moment ago
        continue;
      }
      const isFolder = stat.isDirectory();
      const rule = this.#ruleOf(within, rules, ownRules, name, isFolder);
      if (rule === undefined) {
        isSomeLeftOut = true;
        if (within.rule !== "named" && within.rule !== "tracked") this.#leaveOut(name, relativePath, isFolder);
      } else if (stat.isFile()) {
        const entry = cached?.find(name, stat) ?? -1;
        if (entry >= 0) {
          reader.pass(stat);
          known.add(name, entry, stat.mode);
          if (this.#isKnownOffered) reader.outbox.offerKnown(cached!.digestOf(entry), path);
        } else if (isPrivateWhenKey(name) && !this.#named.paths.has(relativePath) && isKeyFile(path)) {
          isSomeLeftOut = true;
          this.#leaveOut(name, relativePath, false, true);
        } else {
          const reading = reader.read(path, relativePath, stat);
          const read: Reading | undefined = reading instanceof Promise ? await reading : reading;
          if (read !== undefined) {
            reader.addFile(nodes, name, read.digest, read.stat);
            // What may be a key is looked at again each time: it may have been captured because it was named.
            if (read.isStill && !isPrivateWhenKey(name)) written?.add(name, read.stat, read.digest);
          }
        }
        if (reader.isTurnOver) await reader.rest();
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
          ownBase: `${within.ownBase}${byteText(name)}/`,
          ownRules,
        });
      } else if (stat.isSymbolicLink()) nodes.push(reader.link(path, relativePath, name));
      else this.#note(0, relativePath);
    }
    const files = nodes.length; // and symlinks
    let areFoldersAsKnown = true;
    for (const sub of folders) {
      const visited = await this.visit(sub);
      if (visited === undefined) {
        isSomeLeftOut = true;
        continue;
      }
      areFoldersAsKnown &&= visited.isAsKnown;
      nodes.push({ kind: "directory", name: sub.name.slice(within.name.length, -1), digest: visited.digest });
    }
    const foldersIn = nodes.length - files;
    if (known.names.length + nodes.length === 0 && isSomeLeftOut) return undefined;
    const isAsKnown = !this.#isKnownOffered && files === 0 && areFoldersAsKnown &&
      known.names.length === cached?.entries && foldersIn === cached.folders && cached.directory !== undefined;
    if (isAsKnown) {
      written?.end(cached.directory, foldersIn);
      return { digest: cached.directory!, isAsKnown };
    }
    if (cached !== undefined) nodes.push(...nodesOf(known, cached));
    const collisions = collisionsIn(nodes.map(({ name }) => name));
    for (const [one, other] of collisions) {
      if (this.collisions.length < leftOutNamesMax) this.collisions.push([within.name + one, within.name + other]);
    }
    const { digest } = reader.add(nodes);
    const isAllWritten = written?.size === nodes.length - foldersIn && collisions.length === 0;
    written?.end(isAllWritten ? digest : undefined, foldersIn);
    return { digest, isAsKnown: false };
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
  #ruleOf(
    folder: Folder,
    rules: readonly IgnoreRules[],
    ownRules: readonly IgnoreRules[],
    name: string,
    isFolder: boolean,
  ): Rule | undefined {
    if (name === ".git" || isBeside(name)) return undefined;
    const isNamedAtAll = this.#named.paths.size > 0;
    const path = isNamedAtAll ? folder.name + name : "";
    if (isNamedAtAll && this.#named.paths.has(path)) return "whole";
    const isNamedInside = isNamedAtAll && isFolder && this.#named.folders.has(path);
    const namedInside = isNamedInside ? "named" : undefined;
    if (isHidden(name)) return namedInside;
    if (folder.rule === "whole") return "whole";
    if (folder.rule === "named") return namedInside;
    if (ownRules.length > 0) {
      const verdict = ruleOn(ownRules, folder.ownBase + byteText(name), folder.ownBase.length, isFolder);
      if (verdict !== undefined) return verdict === "keep" ? "ruled" : namedInside;
    }
    if (folder.rule === "ruled" && rules.length === 0) return "ruled";
    const gitPath = folder.base + byteText(name);
    if (folder.rule === "ruled" && ruleOn(rules, gitPath, folder.base.length, isFolder) !== "ignore") return "ruled";
    const tracked = folder.repository?.tracked();
    if (!isFolder) return tracked?.files.has(gitPath) ? "tracked" : undefined;
    if (tracked?.repositories.has(gitPath)) return "ruled";
    return tracked?.folders.has(gitPath) ? "tracked" : namedInside;
  }

  #leaveOut(name: string, path: string, isFolder: boolean, isKey = isPrivateName(name)): void {
    this.#note(name === ".git" || isKey || isHidden(name) ? 1 : isFolder ? 2 : 3, path);
    if (isKey && this.privateKeys.length < leftOutNamesMax) this.privateKeys.push(path);
  }

  #note(rank: 0 | 1 | 2 | 3, path: string): void {
    this.leftOutCount++;
    if (this.leftOut[rank].length < leftOutNamesMax) this.leftOut[rank].push(path);
  }
}

/** What is captured only when it is named. */
const isHidden = (name: string): boolean => name.startsWith(".env") || isPrivateName(name);

/** @throws {Fault} never: what cannot be read is read again, and told, by who captures it. */
function isKeyFile(path: string): boolean {
  const start = Buffer.alloc(keyStartBytes);
  try {
    const fd = openSync(path, "r");
    try {
      return isKeyText(start.subarray(0, readSync(fd, start)).toString("latin1"));
    } finally {
      closeSync(fd);
    }
  } catch {
    return false;
  }
}
