import { Buffer } from "node:buffer";
import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import type { Readable } from "node:stream";
import { type Digest, digestOfHash, sizeOf } from "../../domain/digest.ts";
import { Fault } from "../../domain/fault.ts";
import { type Blobs, digestOf } from "../blobs/blobs.ts";
import { Outbox, wholeBytesMax } from "./outbox.ts";
import { encodedDirectory } from "./read_files.ts";
import { refuseDepth } from "./read_tree.ts";
import type { Node } from "./tree.ts";

export interface CaptureRevisionOptions {
  /** A folder in a git repository, or a bare one. */
  readonly repository: string;
  /** What git takes for a commit or tree: "main", "v1.2", "HEAD~3", a hash. */
  readonly revision: string;
  readonly blobs: Blobs;
  /** The environment that git is run in. Variables that name another repository do not count. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly signal?: AbortSignal;
}

export interface RevisionReport {
  readonly snapshot: Digest;
  /** The tree's name in git. */
  readonly tree: string;
  readonly files: number;
  readonly bytes: number;
  readonly sentFiles: number;
  readonly sentBytes: number;
  /** Submodules: their files are in other repositories. At most 20 paths. */
  readonly leftOut: readonly string[];
  readonly leftOutCount: number;
}

const leftOutNamesMax = 20;
/** What git says when something is wrong is shown so far. */
const complaintBytesMax = 2000;

/**
 * Captures the tree of a git commit: what is in the repository, not in its working folder. Files with their execute
 * bits, symlinks as they are; no ignore rules, for what is committed is meant to be there. Runs git.
 *
 * @throws {Fault} `REF_UNKNOWN` for a revision that git does not know, `CAPTURE_FAILED` when git is not there or cannot
 * read it, `NAME_NOT_UTF8`, and whatever the store throws. The signal's reason when it is aborted.
 */
export async function captureRevision(options: CaptureRevisionOptions): Promise<RevisionReport> {
  const tree = await findTree(options);
  const entries = await listTree(options, tree);
  const outbox = new Outbox(options);
  try {
    const contents = await readBlobs(options, outbox, entries);
    const leftOut = entries.filter(({ kind }) => kind === "submodule").map(({ path }) => path);
    const files = entries.filter(({ kind }) => kind === "file" || kind === "program");
    const snapshot = encodeTreeOf(entries, contents, outbox);
    await outbox.finish();
    return {
      snapshot,
      tree,
      files: files.length,
      bytes: files.reduce((sum, { object }) => sum + sizeOf(contents.get(object)!.digest), 0),
      sentFiles: outbox.sentFiles,
      sentBytes: outbox.sentBytes,
      leftOut: leftOut.slice(0, leftOutNamesMax),
      leftOutCount: leftOut.length,
    };
  } finally {
    await outbox.settle();
  }
}

interface Entry {
  readonly path: string;
  readonly kind: "file" | "program" | "symlink" | "submodule";
  readonly object: string;
}

const kinds: Readonly<Record<string, Entry["kind"]>> = {
  "100644": "file",
  "100664": "file", // of very old repositories
  "100755": "program",
  "120000": "symlink",
  "160000": "submodule",
};

interface Content {
  readonly digest: Digest;
  /** Of small files: where a symlink leads. */
  readonly bytes?: Uint8Array;
}

async function findTree(options: CaptureRevisionOptions): Promise<string> {
  // First the object, then its tree: in "HEAD:src" what follows the colon is a path to its end.
  return await parseRevision(options, `${await parseRevision(options, options.revision)}^{tree}`);
}

async function parseRevision(options: CaptureRevisionOptions, text: string): Promise<string> {
  const git = new Git(options, ["rev-parse", "--verify", "--quiet", "--end-of-options", text]);
  const name = (await git.whole()).toString("latin1").trim();
  const complaint = await git.ended;
  if (complaint === undefined && /^[0-9a-f]{40,64}$/.test(name)) return name;
  const { repository, revision } = options;
  throw new Fault(
    "REF_UNKNOWN",
    `Cannot capture revision "${revision}" of ${repository}: git knows no such commit or tree there${
      complaint ? ` (${complaint})` : ""
    }`,
  );
}

async function listTree(options: CaptureRevisionOptions, tree: string): Promise<Entry[]> {
  const git = new Git(options, ["ls-tree", "-r", "-z", "--full-tree", tree]);
  const listed = await git.whole();
  git.refuseComplaint(await git.ended);
  const entries: Entry[] = [];
  for (let at = 0; at < listed.length;) {
    const end = listed.indexOf(0, at);
    const tab = listed.indexOf(0x09, at);
    const [mode = "", , object = ""] = listed.toString("latin1", at, tab).split(" ");
    const path = utf8(listed.subarray(tab + 1, end), "a name");
    const kind = kinds[mode];
    if (kind === undefined) throw git.failed(`"${path}" has the mode ${mode}`);
    entries.push({ path, kind, object });
    at = end + 1;
  }
  return entries;
}

/** Reads every object once, and offers it to the store. */
async function readBlobs(
  options: CaptureRevisionOptions,
  outbox: Outbox,
  entries: readonly Entry[],
): Promise<Map<string, Content>> {
  const contents = new Map<string, Content>();
  const objects = new Map(
    entries.filter(({ kind }) => kind !== "submodule").map(({ object, kind }) => [object, kind]),
  );
  if (objects.size === 0) return contents;
  const git = new Git(options, ["cat-file", "--batch"], [...objects.keys()].join("\n") + "\n");
  const reader = new PieceReader(git.out);
  try {
    for (const object of objects.keys()) {
      const line = await reader.line();
      const size = Number(/^[0-9a-f]+ blob ([0-9]+)$/.exec(line)?.[1] ?? NaN);
      if (!Number.isSafeInteger(size)) throw await git.broken(line);
      if (size > wholeBytesMax) {
        const hash = createHash("sha256");
        await reader.pieces(size, (piece) => hash.update(piece));
        const digest = digestOfHash(hash.digest("hex"), size);
        await outbox.sendStream(digest, () => new Git(options, ["cat-file", "blob", object]).out);
        contents.set(object, { digest });
      } else {
        const parts: Buffer[] = [];
        await reader.pieces(size, (piece) => parts.push(piece));
        const bytes = Buffer.concat(parts);
        const digest = digestOf(bytes);
        if (objects.get(object) !== "symlink") outbox.offer(digest, bytes, true);
        contents.set(object, { digest, bytes: objects.get(object) === "symlink" ? bytes : new Uint8Array(0) });
        if (outbox.isFull) await outbox.room();
      }
      await reader.pieces(1, () => {}); // a line end
      options.signal?.throwIfAborted();
    }
    git.refuseComplaint(await git.ended);
    return contents;
  } finally {
    git.stop();
  }
}

interface Folder {
  readonly nodes: Node[];
  readonly folders: Map<string, Folder>;
}

function encodeTreeOf(entries: readonly Entry[], contents: ReadonlyMap<string, Content>, outbox: Outbox): Digest {
  const root: Folder = { nodes: [], folders: new Map() };
  for (const { path, kind, object } of entries) {
    if (kind === "submodule") continue;
    const segments = path.split("/");
    const name = segments.pop()!;
    let folder = root;
    for (const segment of segments) {
      let next = folder.folders.get(segment);
      if (next === undefined) folder.folders.set(segment, next = { nodes: [], folders: new Map() });
      folder = next;
    }
    const { digest, bytes } = contents.get(object)!;
    folder.nodes.push(
      kind === "symlink"
        ? { kind, name, target: utf8(bytes ?? new Uint8Array(0), `the target of "${path}"`) }
        : { kind: "file", name, digest, executable: kind === "program" },
    );
  }
  const add = ({ nodes, folders }: Folder, depth: number, path: string): Digest => {
    refuseDepth(depth, path);
    for (const [name, inner] of folders) {
      nodes.push({ kind: "directory", name, digest: add(inner, depth + 1, `${path}${name}/`) });
    }
    const { digest, bytes } = encodedDirectory(nodes);
    outbox.offer(digest, bytes, false);
    return digest;
  };
  return add(root, 0, "");
}

const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function utf8(bytes: Uint8Array, what: string): string {
  try {
    return strictUtf8.decode(bytes);
  } catch (error) {
    throw new Fault(
      "NAME_NOT_UTF8",
      `Cannot capture a revision as ${what} must be UTF-8: current value is "${Buffer.from(bytes).toString("latin1")}"`,
      { cause: error },
    );
  }
}

/** One run of git. */
class Git {
  readonly out: Readable;
  /** Resolves when git has ended: with what it complained of when it failed. */
  readonly ended: Promise<string | undefined>;
  #options: CaptureRevisionOptions;
  #child: ChildProcess;

  constructor(options: CaptureRevisionOptions, args: readonly string[], input = "") {
    this.#options = options;
    const env = Object.fromEntries(
      Object.entries(options.environment).filter(([name]) =>
        !/^GIT_(DIR|WORK_TREE|INDEX_FILE|COMMON_DIR|OBJECT_)/.test(name)
      ),
    );
    const child = spawn("git", ["-C", options.repository, ...args], {
      env: { ...env, LC_ALL: "C", GIT_OPTIONAL_LOCKS: "0", GIT_TERMINAL_PROMPT: "0" },
      stdio: ["pipe", "pipe", "pipe"],
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    });
    this.#child = child;
    this.out = child.stdout;
    let complaint = "";
    child.stderr.on("data", (chunk: Buffer) => {
      if (complaint.length < complaintBytesMax) complaint += chunk.toString("latin1");
    });
    child.stdin.on("error", () => {}); // git has ended before it read all: it says why
    child.stdin.end(input);
    this.ended = new Promise((resolve) => {
      child.on("error", (error) => resolve(error.message));
      child.on("close", (code) => resolve(code === 0 ? undefined : complaint.trim().slice(0, complaintBytesMax)));
    });
  }

  async whole(): Promise<Buffer> {
    const chunks: Buffer[] = [];
    for await (const chunk of this.out) chunks.push(chunk as Buffer);
    this.#options.signal?.throwIfAborted();
    return Buffer.concat(chunks);
  }

  failed(why: string): Fault {
    const { repository, revision } = this.#options;
    return new Fault("CAPTURE_FAILED", `Cannot capture revision "${revision}" of ${repository}: ${why}`);
  }

  refuseComplaint(complaint: string | undefined): void {
    this.#options.signal?.throwIfAborted();
    if (complaint !== undefined) throw this.failed(complaint);
  }

  /** Ends it, if it has not ended. Nobody reads on. */
  stop(): void {
    this.#child.kill();
    this.out.destroy();
  }

  /** Ends it, after it said something strange. */
  async broken(said: string): Promise<Fault> {
    this.stop();
    const complaint = await this.ended;
    this.#options.signal?.throwIfAborted();
    return this.failed(complaint || `git says "${said.slice(0, 100)}"`);
  }
}

/** Takes a stream apart by lines and lengths. */
class PieceReader {
  #chunks: AsyncIterator<Buffer>;
  #rest: Buffer = Buffer.alloc(0);

  constructor(stream: AsyncIterable<Buffer>) {
    this.#chunks = stream[Symbol.asyncIterator]();
  }

  /** Up to a line end, which is taken too; at the end of the stream what is left. */
  async line(): Promise<string> {
    for (let end = this.#rest.indexOf(0x0a);; end = this.#rest.indexOf(0x0a)) {
      if (end >= 0 || !(await this.#more())) {
        const line = this.#rest.toString("latin1", 0, end < 0 ? this.#rest.length : end);
        this.#rest = this.#rest.subarray(end < 0 ? this.#rest.length : end + 1);
        return line;
      }
    }
  }

  /** So many bytes, as they come. Fewer at the end of the stream, which the next line then tells. */
  async pieces(length: number, take: (piece: Buffer) => void): Promise<void> {
    for (let left = length; left > 0;) {
      if (this.#rest.length === 0 && !(await this.#more())) return;
      const piece = this.#rest.subarray(0, left);
      take(piece);
      left -= piece.length;
      this.#rest = this.#rest.subarray(piece.length);
    }
  }

  async #more(): Promise<boolean> {
    const { value, done } = await this.#chunks.next();
    if (done) return false;
    this.#rest = this.#rest.length === 0 ? value : Buffer.concat([this.#rest, value]);
    return true;
  }
}
