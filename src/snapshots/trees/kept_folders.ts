import { createHash } from "node:crypto";
import * as v from "valibot";
import { type Digest, isDigest, sizeOf } from "../../domain/digest.ts";
import { asFault, isFault } from "../../domain/fault.ts";
import type { Log } from "../../observability/log.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { Blobs } from "../blobs/blobs.ts";
import type { Refs } from "../refs/refs.ts";
import { type KeptFolder, readKeptFolder, writeKeptFolder } from "./kept_folder.ts";
import { walk } from "./read_tree.ts";

/** Whose folder it is, and what it is called among theirs. */
export interface KeptName {
  readonly requestor: string;
  readonly name: string;
}

export interface FoundFolder extends KeptFolder {
  /** The two of it in one. */
  readonly snapshot: Digest;
}

/**
 * What runs leave to those after them on this machine, by name. All processes of the machine share it. A name is moved
 * in one step from one whole folder to another: of two runs that end at once, the last one's is kept.
 */
export interface KeptFolders {
  /** Undefined when there is none, or none that can be read any more: that is logged. */
  find(of: KeptName): Promise<FoundFolder | undefined>;
  /** What was found could not be laid out: it is forgotten, unless another run has left a newer one meanwhile. */
  forget(of: KeptName, found: FoundFolder): Promise<void>;
  /** Durable when it resolves. Of more than {@link keptFoldersMax} names the least lately kept goes. */
  keep(of: KeptName, folder: KeptFolder): Promise<void>;
  /**
   * What is to stay in the store: the most lately kept, as far as all of it together has no more bytes than that. Others
   * are found as long as they are there.
   */
  snapshots(bytesMax: number): AsyncIterable<Digest>;
}

/** On one machine. */
export const keptFoldersMax = 1_000;
/** Others may move the same name meanwhile; each time that they do, they have got on. */
const triesMax = 100;

const valueSchema = v.pipe(
  v.string(),
  v.parseJson(),
  v.object({
    snapshot: v.custom<Digest>((input) => typeof input === "string" && isDigest(input)),
    requestor: v.string(),
    name: v.string(),
    keptAtMs: v.number(),
    /** Of its files, and of those that it was made for. */
    bytes: v.number(),
  }),
);
type Value = v.InferOutput<typeof valueSchema>;

/** As short as a ref's name must be, whatever it is made of; its value says what that was. */
const refOf = ({ requestor, name }: KeptName): string =>
  `cache/${createHash("sha256").update(JSON.stringify([requestor, name])).digest("hex")}`;

export function keptFolders(
  { refs, blobs, clock, log }: {
    readonly refs: Refs;
    readonly blobs: Blobs;
    readonly clock: Clock;
    readonly log: Log;
  },
): KeptFolders {
  const parsed = (value: string): Value | undefined => {
    const { success, output } = v.safeParse(valueSchema, value);
    return success ? output as Value : undefined;
  };
  const move = async (
    ref: string,
    next: (before: Value | undefined) => string | undefined | "leave",
  ): Promise<void> => {
    for (let tries = 1;; tries++) {
      const before = await refs.get(ref);
      const wanted = next(before === undefined ? undefined : parsed(before));
      if (wanted === "leave") return;
      try {
        return await refs.compareAndSet(ref, before, wanted);
      } catch (thrown) {
        if (!isFault(thrown, "REF_CONFLICT") || tries === triesMax) throw thrown;
      }
    }
  };
  const bytesIn = async (snapshot: Digest): Promise<number> => {
    const files = new Set<Digest>();
    for await (const { node } of walk(blobs, snapshot)) if (node.kind === "file") files.add(node.digest);
    let bytes = 0;
    for (const digest of files) bytes += sizeOf(digest);
    return bytes;
  };
  /** A new name may be one too many. */
  const makeRoom = async (): Promise<void> => {
    let count = 0;
    let oldest: { readonly ref: string; readonly value: string; readonly keptAtMs: number } | undefined;
    for await (const [ref, value] of refs.list("cache/")) {
      count++;
      const keptAtMs = parsed(value)?.keptAtMs ?? 0;
      if (oldest === undefined || keptAtMs < oldest.keptAtMs) oldest = { ref, value, keptAtMs };
    }
    if (count < keptFoldersMax || oldest === undefined) return;
    await refs.compareAndSet(oldest.ref, oldest.value, undefined).catch((thrown) => {
      if (!isFault(thrown, "REF_CONFLICT")) throw thrown; // it was just used
    });
  };

  return {
    async find(of) {
      const value = await refs.get(refOf(of));
      if (value === undefined) return undefined;
      try {
        const { snapshot } = v.parse(valueSchema, value);
        return { snapshot, ...await readKeptFolder(blobs, snapshot) };
      } catch (thrown) {
        log.warn("Cannot read a kept folder; the task starts without it", { ...of, error: asFault(thrown) });
        return undefined;
      }
    },
    async forget(of, { snapshot }) {
      await move(refOf(of), (before) => before?.snapshot === snapshot ? undefined : "leave");
    },
    async keep({ requestor, name }, folder) {
      const snapshot = await writeKeptFolder(blobs, folder);
      const ref = refOf({ requestor, name });
      if (await refs.get(ref) === undefined) await makeRoom();
      const value: Value = { snapshot, requestor, name, keptAtMs: clock.now(), bytes: await bytesIn(snapshot) };
      await move(ref, () => JSON.stringify(value));
    },
    async *snapshots(bytesMax) {
      const all: Value[] = [];
      for await (const [, value] of refs.list("cache/")) {
        const kept = parsed(value);
        if (kept !== undefined) all.push(kept);
      }
      let sum = 0;
      for (const { snapshot, bytes } of all.sort((a, b) => b.keptAtMs - a.keptAtMs)) {
        sum += bytes;
        if (sum > bytesMax) return;
        yield snapshot;
      }
    },
  };
}
