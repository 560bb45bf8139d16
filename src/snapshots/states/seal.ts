/**
 * Actors with their history, and the blobs that they name, sealed: as a tree of blobs in a store, and as one file.
 *
 * The tree: *leaves* are CBOR arrays of entries (maps with all fields of `Entry`), actor by actor in byte order of
 * address, each actor's entries oldest first, about 24 actors or 1 MiB a leaf. The *manifest*, a CBOR map, names the
 * leaves in order and the blobs in order of digest; its digest is the root. Digests are of raw bytes, nothing in it
 * depends on when or where it was sealed: the same content has the same root.
 *
 * The file, numbers little-endian:
 *
 * ```
 * "scootjob" | u32 format
 * parts, the manifest first, then its leaves, then its blobs, in its order:
 *   u8 kind (1 manifest, 2 leaf, 3 blob) | 32 B SHA-256 | f64 raw bytes
 *   frames (u32 1…65536 | so many bytes) of one raw DEFLATE stream | u32 0
 * u8 255 | 32 B SHA-256 of the root
 * ```
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { setImmediate } from "node:timers/promises";
import { Deflate, Inflate } from "fflate";
import * as v from "valibot";
import { type Digest, digestOfHash, hashOf, isDigest, sizeOf } from "../../domain/digest.ts";
import { Fault } from "../../domain/fault.ts";
import type { Address } from "../../domain/ids.ts";
import { type Blobs, readBlob, writeBlob } from "../blobs/blobs.ts";
import { entryMap } from "./entry_codec.ts";
import { decodeForeign, encodePlain } from "./plain_cbor.ts";
import type { Entry, States } from "./states.ts";

const sealFormat = 1;
const leafActors = 24;
/** A leaf is ended by the entry that makes it longer than this. */
const leafBytes = 1024 * 1024;
const leafBytesMax = 32 * 1024 * 1024;
const manifestBytesMax = 64 * 1024 * 1024;

const digest = v.pipe(v.string(), v.check(isDigest, "must be a digest"), v.transform((text) => text as Digest));
const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const manifestSchema = v.object({
  format: v.literal(sealFormat),
  /** What was asked for: addresses, and prefixes that end in "/". */
  addresses: v.array(v.string()),
  actors: count,
  entries: count,
  leaves: v.array(digest),
  blobs: v.array(digest),
  /** Named, but not there any more when this was sealed. */
  absent: v.array(digest),
});
export type SealedManifest = v.InferOutput<typeof manifestSchema>;

const address = v.pipe(v.string(), v.transform((text) => text as Address));
const entrySchema = v.object({
  seq: count,
  atMs: v.number(),
  epoch: count,
  address,
  machine: v.string(),
  version: count,
  state: v.unknown(),
  cause: v.object({ id: v.string(), from: address, event: v.unknown() }),
  said: v.array(v.object({ id: v.string(), to: address, body: v.unknown() })),
  reason: v.exactOptional(v.string()),
});
const leafSchema = v.array(entrySchema);

export interface SealOptions {
  readonly states: States;
  /** Addresses of actors, and prefixes that end in "/" for all below: a job and its tasks. */
  readonly addresses: readonly string[];
  /** Holds the blobs that are named, and takes the leaves and the manifest. */
  readonly blobs: Blobs;
  /** The blobs that belong to it. Those that the store does not hold are named in the manifest as absent. */
  readonly digests: ReadonlySet<Digest>;
}

/** Stores the leaves and the manifest. @returns the root: the digest of the manifest. */
export async function sealTree({ states, addresses, blobs, digests }: SealOptions): Promise<Digest> {
  const { firstSeq, lastSeq } = await states.bounds();
  const leaves: Digest[] = [];
  let actors = 0;
  let entries = 0;
  let leaf: Record<string, unknown>[] = [];
  let bytes = 0;
  let actorsOfLeaf = 0;
  const endLeaf = async (): Promise<void> => {
    if (leaf.length > 0) leaves.push(await writeBlob(blobs, encodePlain(leaf)));
    leaf = [];
    bytes = 0;
    actorsOfLeaf = 0;
  };
  for (const [actor, isOlder] of await actorsUnder(states, addresses, firstSeq, lastSeq)) {
    for await (const entry of storyOf(states, actor, isOlder, firstSeq, lastSeq)) {
      const map = entryMap(entry);
      leaf.push(map);
      entries++;
      bytes += encodePlain(map).length;
      if (bytes > leafBytes) await endLeaf();
    }
    actors++;
    actorsOfLeaf++;
    if (actorsOfLeaf >= leafActors) await endLeaf();
  }
  await endLeaf();
  const absent = await blobs.missing(digests);
  const manifest: SealedManifest = {
    format: sealFormat,
    addresses: [...addresses].sort(),
    actors,
    entries,
    leaves,
    blobs: [...digests].filter((one) => !absent.has(one)).sort(),
    absent: [...absent].sort(),
  };
  return await writeBlob(blobs, encodePlain(manifest));
}

/** The actors in byte order, with whether the history still needs the entry before it. */
async function actorsUnder(
  states: States,
  addresses: readonly string[],
  firstSeq: number,
  lastSeq: number,
): Promise<[string, boolean][]> {
  const found = new Map<string, boolean>();
  for (const prefix of addresses) {
    for await (const entry of states.history(prefix, { toSeq: lastSeq })) found.set(entry.address, false);
    if (firstSeq === 1) continue;
    for await (const entry of states.cut(firstSeq, prefix)) {
      const isAsked = prefix.endsWith("/") || entry.address === prefix;
      if (isAsked && entry.seq < firstSeq) found.set(entry.address, true);
    }
  }
  return [...found].sort(([a], [b]) => (a < b ? -1 : 1));
}

/** All that is kept of one actor, oldest first: where the kept history begins, then every step. */
async function* storyOf(
  states: States,
  actor: string,
  isOlder: boolean,
  firstSeq: number,
  lastSeq: number,
): AsyncGenerator<Entry> {
  if (isOlder) {
    for await (const entry of states.cut(firstSeq, actor)) if (entry.address === actor) yield entry;
  }
  yield* states.history(actor, { afterSeq: firstSeq - 1, toSeq: lastSeq });
}

/** A sealed tree as it lies in a store. */
export interface SealedTree {
  readonly manifest: SealedManifest;
  /** Actor by actor, each oldest first. */
  readonly entries: AsyncIterable<Entry>;
}

/** @throws {Fault} `BLOB_MISSING` when a part of it is not there, `STORE_NEWER`, `STORE_CORRUPT`. */
export async function readTree({ blobs, root }: { readonly blobs: Blobs; readonly root: Digest }): Promise<SealedTree> {
  const manifest = parseManifest(await readBlob(blobs, root, manifestBytesMax));
  return {
    manifest,
    entries: {
      async *[Symbol.asyncIterator]() {
        for (const leaf of manifest.leaves) yield* parseLeaf(await readBlob(blobs, leaf, leafBytesMax));
      },
    },
  };
}

/** Seals into the blob store, and yields the file. */
export async function* sealJob(options: SealOptions): AsyncGenerator<Uint8Array> {
  yield* exportTree({ blobs: options.blobs, root: await sealTree(options) });
}

const magic = Buffer.from("scootjob", "latin1");
const kinds = { manifest: 1, leaf: 2, blob: 3, end: 255 } as const;
type Kind = typeof kinds[keyof typeof kinds];
const partHeaderBytes = 41;
const frameBytesMax = 64 * 1024;
/** fflate turns so many bytes into at most 1032 times as many, at once. */
const inflateStepBytes = 1024;
/** Bytes deflated or inflated between two looks at the event loop: about 10 ms. */
const turnBytes = 512 * 1024;

/**
 * The file of a sealed tree, in chunks. Holds the manifest and one chunk of one blob.
 *
 * @throws {Fault} `BLOB_MISSING` when a blob of it has gone since.
 */
export async function* exportTree(
  { blobs, root }: { readonly blobs: Blobs; readonly root: Digest },
): AsyncGenerator<Uint8Array> {
  const { manifest } = await readTree({ blobs, root });
  const head = Buffer.alloc(12);
  magic.copy(head);
  head.writeUInt32LE(sealFormat, 8);
  yield head;
  yield* part(blobs, kinds.manifest, root);
  for (const leaf of manifest.leaves) yield* part(blobs, kinds.leaf, leaf);
  for (const blob of manifest.blobs) yield* part(blobs, kinds.blob, blob);
  yield Buffer.concat([Buffer.of(kinds.end), Buffer.from(hashOf(root), "hex")]);
}

async function* part(blobs: Blobs, kind: Kind, blob: Digest): AsyncGenerator<Uint8Array> {
  const header = Buffer.alloc(partHeaderBytes);
  header[0] = kind;
  header.write(hashOf(blob), 1, "hex");
  header.writeDoubleLE(sizeOf(blob), 33);
  yield header;
  let out: Uint8Array[] = [];
  const deflate = new Deflate({ level: 6 }, (chunk) => out.push(chunk));
  const frames = function* (): Generator<Uint8Array> {
    const ready = out;
    out = [];
    for (const chunk of ready) {
      for (let at = 0; at < chunk.length; at += frameBytesMax) {
        const frame = chunk.subarray(at, at + frameBytesMax);
        yield u32(frame.length);
        yield frame;
      }
    }
  };
  let sinceTurn = 0;
  for await (const chunk of blobs.get(blob)) {
    for (let at = 0; at < chunk.length; at += frameBytesMax) {
      // fflate keeps what it is given until it has been through it; stores may use their chunks again.
      deflate.push(Uint8Array.from(chunk.subarray(at, at + frameBytesMax)));
      yield* frames();
      sinceTurn += frameBytesMax;
      if (sinceTurn < turnBytes) continue;
      sinceTurn = 0;
      await setImmediate();
    }
  }
  deflate.push(new Uint8Array(0), true);
  yield* frames();
  yield u32(0);
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

/** A file as it is read, front to back: the entries first, then the blobs. What is passed over is still checked. */
export interface SealedFile {
  readonly root: Digest;
  readonly manifest: SealedManifest;
  /** Actor by actor, each oldest first. To be read once, before the blobs. */
  readonly entries: AsyncIterable<Entry>;
  /** Each with its bytes, which are to be read before the next; to be read once. The end of it is the end of the file. */
  readonly blobs: AsyncIterable<{ readonly digest: Digest; readonly bytes: AsyncIterable<Uint8Array> }>;
}

/**
 * Opens a sealed file that anyone may have made. Holds the manifest and one leaf, or 1 MiB of a blob.
 *
 * @param stream chunks of any size, in order.
 * @throws {Fault} `STORE_NEWER` for a later format, `STORE_CORRUPT` for anything but a whole and unharmed file; while it
 *   is read, as soon as it shows.
 */
export async function openSealed(stream: AsyncIterable<Uint8Array>): Promise<SealedFile> {
  const { root, manifest, leaves, blobs } = await openParts(stream);
  return {
    root,
    manifest,
    entries: {
      async *[Symbol.asyncIterator]() {
        for await (const { bytes } of leaves()) yield* parseLeaf(bytes);
      },
    },
    blobs: { [Symbol.asyncIterator]: blobs },
  };
}

/**
 * Takes a sealed file into a blob store: afterwards {@link readTree} reads it there. Blobs are kept as they come, so
 * those before a fault are; the manifest comes last, and without it nothing names them.
 *
 * @returns the root. @throws {Fault} as {@link openSealed} and `put` do.
 */
export async function importSealed(
  { stream, blobs }: { readonly stream: AsyncIterable<Uint8Array>; readonly blobs: Blobs },
): Promise<Digest> {
  const file = await openParts(stream);
  for await (const { digest, bytes } of file.leaves()) {
    parseLeaf(bytes);
    await blobs.put(digest, bytes);
  }
  for await (const { digest, bytes } of file.blobs()) await blobs.put(digest, bytes);
  await blobs.put(file.root, file.manifestBytes);
  return file.root;
}

async function openParts(stream: AsyncIterable<Uint8Array>) {
  const source = pullFrom(stream);
  const head = await source.take(magic.length + 4);
  if (!head.subarray(0, magic.length).equals(magic)) throw unreadable("it must begin with scootjob");
  checkFormat(head.readUInt32LE(magic.length));
  const first = await openPart(source, kinds.manifest, undefined, manifestBytesMax);
  const root = first.digest;
  const manifestBytes = await whole(first);
  const manifest = parseManifest(manifestBytes);
  let leavesRead = 0;

  async function* leaves(): AsyncGenerator<{ readonly digest: Digest; readonly bytes: Uint8Array }> {
    while (leavesRead < manifest.leaves.length) {
      const leaf = await openPart(source, kinds.leaf, manifest.leaves[leavesRead], leafBytesMax);
      const bytes = await whole(leaf);
      leavesRead++;
      yield { digest: leaf.digest, bytes };
    }
  }
  async function* blobs(): AsyncGenerator<Part> {
    // Leaves that nobody read lie before the blobs.
    for await (const { bytes } of leaves()) parseLeaf(bytes);
    for (const name of manifest.blobs) {
      const blob = await openPart(source, kinds.blob, name, Infinity);
      yield blob;
      for await (const _ of blob.bytes);
    }
    const end = await source.take(33);
    if (end[0] !== kinds.end || end.toString("hex", 1) !== hashOf(root)) throw unreadable("it must end with its root");
    if (!(await source.isAtEnd())) throw unreadable("nothing must follow its end");
  }
  return { root, manifest, manifestBytes, leaves, blobs };
}

interface Part {
  readonly digest: Digest;
  /** A reader that stops half-way leaves the rest to the next. */
  readonly bytes: AsyncIterable<Uint8Array>;
}

/** The next part, which must be of that kind and, if it is known, that digest. */
async function openPart(source: Source, kind: Kind, expected: Digest | undefined, bytesMax: number): Promise<Part> {
  const header = await source.take(partHeaderBytes);
  const size = header.readDoubleLE(33);
  if (header[0] !== kind) throw unreadable(`a part of kind ${kind} must come next: current value is ${header[0]}`);
  if (!Number.isSafeInteger(size) || size < 0 || size > bytesMax) {
    throw unreadable(`a part of kind ${kind} must have at most ${bytesMax} bytes: current value is ${size}`);
  }
  const named = digestOfHash(header.toString("hex", 1, 33), size);
  if (expected !== undefined && named !== expected) {
    throw unreadable(`${expected} must come next: current value is ${named}`);
  }
  const chunks = inflateFrames(source, named);
  return { digest: named, bytes: { [Symbol.asyncIterator]: () => ({ next: () => chunks.next() }) } };
}

async function* inflateFrames(source: Source, named: Digest): AsyncGenerator<Uint8Array> {
  const hash = createHash("sha256");
  let left = sizeOf(named);
  let out: Uint8Array[] = [];
  const inflate = new Inflate((chunk) => out.push(chunk));
  const step = (piece: Uint8Array, isFinal: boolean): Uint8Array[] => {
    try {
      inflate.push(piece, isFinal);
    } catch (cause) {
      throw unreadable(`${named} must be raw DEFLATE: ${(cause as Error).message}`);
    }
    const ready = out.filter(({ length }) => length > 0);
    out = [];
    for (const chunk of ready) {
      left -= chunk.length;
      if (left < 0) throw unreadable(`${named} must match its bytes: there are more`);
      hash.update(chunk);
    }
    return ready;
  };
  let sinceTurn = 0;
  for (;;) {
    const length = (await source.take(4)).readUInt32LE();
    if (length > frameBytesMax) throw unreadable(`a frame must have at most ${frameBytesMax} bytes: it has ${length}`);
    if (length === 0) break;
    const frame = await source.take(length);
    for (let at = 0; at < length; at += inflateStepBytes) {
      for (const chunk of step(frame.subarray(at, at + inflateStepBytes), false)) {
        yield chunk;
        sinceTurn += chunk.length;
      }
    }
    if (sinceTurn < turnBytes) continue;
    sinceTurn = 0;
    await setImmediate();
  }
  yield* step(new Uint8Array(0), true);
  if (left > 0) throw unreadable(`${named} must match its bytes: ${left} are missing`);
  if (hash.digest("hex") !== hashOf(named)) throw unreadable(`${named} must match its bytes: they differ`);
}

/** Pulls as many bytes as are asked for out of a stream of chunks. */
interface Source {
  /** Exactly so many bytes, at most 64 KiB. @throws {Fault} when the stream ends before. */
  take(length: number): Promise<Buffer>;
  isAtEnd(): Promise<boolean>;
}

function pullFrom(stream: AsyncIterable<Uint8Array>): Source {
  const chunks = stream[Symbol.asyncIterator]();
  let held: Buffer = Buffer.alloc(0);
  /** Holds at least so many bytes, if the stream has them. */
  const hold = async (length: number): Promise<boolean> => {
    const parts = [held];
    let bytes = held.length;
    while (bytes < length) {
      const next = await chunks.next();
      if (next.done) break;
      parts.push(Buffer.from(next.value.buffer, next.value.byteOffset, next.value.byteLength));
      bytes += next.value.length;
    }
    if (parts.length > 1) held = Buffer.concat(parts, bytes);
    return bytes >= length;
  };
  return {
    async take(length) {
      if (!(await hold(length))) throw unreadable("it must go on: it is cut off here");
      const taken = held.subarray(0, length);
      held = held.subarray(length);
      return taken;
    },
    isAtEnd: async () => !(await hold(1)),
  };
}

async function whole({ digest, bytes }: Part): Promise<Uint8Array> {
  const all: Uint8Array[] = [];
  for await (const chunk of bytes) all.push(chunk);
  return Buffer.concat(all, sizeOf(digest));
}

function checkFormat(format: unknown): void {
  if (format === sealFormat) return;
  if (typeof format !== "number" || !(format > sealFormat)) throw unreadable(`its format must be ${sealFormat}`);
  throw new Fault(
    "STORE_NEWER",
    `Cannot read what is sealed as it was made by a newer version: format ${format}, this one knows up to ${sealFormat}`,
  );
}

function parseManifest(bytes: Uint8Array): SealedManifest {
  const value = decodeForeign(bytes);
  checkFormat((value as { format?: unknown } | null)?.format);
  return parse(manifestSchema, value, "its manifest");
}

const parseLeaf = (bytes: Uint8Array): Entry[] => parse(leafSchema, decodeForeign(bytes), "a leaf");

function parse<Schema extends v.GenericSchema>(schema: Schema, value: unknown, what: string): v.InferOutput<Schema> {
  const result = v.safeParse(schema, value, { abortEarly: true });
  if (result.success) return result.output;
  const [issue] = result.issues;
  throw unreadable(`${what} must have its shape: ${v.getDotPath(issue) ?? what}: ${issue.message}`);
}

const unreadable = (why: string): Fault => new Fault("STORE_CORRUPT", `Cannot read what is sealed as ${why}`);
