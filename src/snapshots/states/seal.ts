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
 *   frames: u32 raw bytes 1…65536 | u32 bytes | so many bytes, raw DEFLATE (RFC 1951) of those raw ones | and u32 0
 * u8 255 | 32 B SHA-256 of all that stands before
 * ```
 *
 * The last line is there because DEFLATE has bits that say nothing: a part may be harmed and still give its bytes.
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { setImmediate } from "node:timers/promises";
import { deflateSync, inflateSync } from "fflate";
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
/** A story of so many entries is held in memory. */
const shortEntries = 100;
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
  const actors = await actorsUnder(states, addresses, firstSeq, lastSeq);
  const leaves: Digest[] = [];
  let entries = 0;
  for (let from = 0; from < actors.length; from += leafActors) {
    // Short stories are read side by side, so that they wait for the disk together.
    const stories = await Promise.all(
      actors.slice(from, from + leafActors).map((actor) => {
        const story = storyOf(states, actor, firstSeq, lastSeq);
        return actor.entries <= shortEntries ? collect(story) : story;
      }),
    );
    let leaf: Uint8Array[] = [];
    let bytes = 0;
    for (const story of stories) {
      for await (const entry of story) {
        const encoded = encodePlain(entryMap(entry));
        leaf.push(encoded);
        bytes += encoded.length;
        entries++;
        if (bytes <= leafBytes) continue;
        leaves.push(await writeBlob(blobs, arrayOf(leaf)));
        leaf = [];
        bytes = 0;
      }
    }
    if (leaf.length > 0) leaves.push(await writeBlob(blobs, arrayOf(leaf)));
    await setImmediate();
  }
  const absent = await blobs.missing(digests);
  const manifest: SealedManifest = {
    format: sealFormat,
    addresses: [...addresses].sort(),
    actors: actors.length,
    entries,
    leaves,
    blobs: [...digests].filter((one) => !absent.has(one)).sort(),
    absent: [...absent].sort(),
  };
  return await writeBlob(blobs, encodePlain(manifest));
}

/** A CBOR array of items that are encoded (RFC 8949, major type 4, shortest form). */
function arrayOf(items: readonly Uint8Array[]): Uint8Array {
  const { length } = items;
  const head = length < 24
    ? Buffer.of(0x80 + length)
    : length < 2 ** 8
    ? Buffer.of(0x98, length)
    : length < 2 ** 16
    ? Buffer.of(0x99, length >> 8, length & 0xff)
    : Buffer.of(0x9a, length >>> 24, (length >> 16) & 0xff, (length >> 8) & 0xff, length & 0xff);
  return Buffer.concat([head, ...items]);
}

interface SealedActor {
  readonly address: string;
  /** In the kept history. */
  entries: number;
  /** Whether the entry before the kept history belongs to it. */
  isOlder: boolean;
}

/** The actors in byte order. */
async function actorsUnder(
  states: States,
  addresses: readonly string[],
  firstSeq: number,
  lastSeq: number,
): Promise<SealedActor[]> {
  const found = new Map<string, SealedActor>();
  const actorAt = (address: string): SealedActor => {
    const actor = found.get(address) ?? { address, entries: 0, isOlder: false };
    found.set(address, actor);
    return actor;
  };
  for (const prefix of addresses) {
    for await (const entry of states.history(prefix, { toSeq: lastSeq })) actorAt(entry.address).entries++;
    if (firstSeq === 1) continue;
    for await (const entry of states.cut(firstSeq, prefix)) {
      const isAsked = prefix.endsWith("/") || entry.address === prefix;
      if (isAsked && entry.seq < firstSeq) actorAt(entry.address).isOlder = true;
    }
  }
  return [...found.values()].sort((a, b) => (a.address < b.address ? -1 : 1));
}

async function collect(story: AsyncIterable<Entry>): Promise<Entry[]> {
  const entries: Entry[] = [];
  for await (const entry of story) entries.push(entry);
  return entries;
}

/** All that is kept of one actor, oldest first: where the kept history begins, then every step. */
async function* storyOf(
  states: States,
  { address, isOlder }: SealedActor,
  firstSeq: number,
  lastSeq: number,
): AsyncGenerator<Entry> {
  if (isOlder) {
    for await (const entry of states.cut(firstSeq, address)) if (entry.address === address) yield entry;
  }
  yield* states.history(address, { afterSeq: firstSeq - 1, toSeq: lastSeq });
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
/** What a small part costs, as if it were so many bytes: fflate makes tables for each. */
const partCostBytes = 16 * 1024;
/** Each frame is deflated by itself, so that one at a time is held. */
const frameBytesMax = 64 * 1024;
/** DEFLATE makes no bytes longer than by 5 for each of its blocks. */
const deflatedBytesMax = frameBytesMax + 1024;
/** Bytes deflated or inflated between two looks at the event loop: about 10 ms. */
const turnBytes = 256 * 1024;

/** Gives others their turn between large amounts of work. */
function turns(): (bytes: number) => Promise<void> | undefined {
  let bytesDone = 0;
  return (bytes) => {
    bytesDone += bytes;
    if (bytesDone < turnBytes) return undefined;
    bytesDone = 0;
    return setImmediate();
  };
}

/**
 * The file of a sealed tree, in chunks. Holds the manifest and one chunk of one blob.
 *
 * @throws {Fault} `BLOB_MISSING` when a blob of it has gone since.
 */
export async function* exportTree(
  { blobs, root }: { readonly blobs: Blobs; readonly root: Digest },
): AsyncGenerator<Uint8Array> {
  const hash = createHash("sha256");
  for await (const chunk of partsOf(blobs, root)) {
    hash.update(chunk);
    yield chunk;
  }
  yield Buffer.concat([Buffer.of(kinds.end), hash.digest()]);
}

async function* partsOf(blobs: Blobs, root: Digest): AsyncGenerator<Uint8Array> {
  const { manifest } = await readTree({ blobs, root });
  const head = Buffer.alloc(12);
  magic.copy(head);
  head.writeUInt32LE(sealFormat, 8);
  yield head;
  const turn = turns();
  yield* part(blobs, kinds.manifest, root, turn);
  for (const leaf of manifest.leaves) yield* part(blobs, kinds.leaf, leaf, turn);
  for (const blob of manifest.blobs) yield* part(blobs, kinds.blob, blob, turn);
}

async function* part(
  blobs: Blobs,
  kind: Kind,
  blob: Digest,
  turn: ReturnType<typeof turns>,
): AsyncGenerator<Uint8Array> {
  const header = Buffer.alloc(partHeaderBytes);
  header[0] = kind;
  header.write(hashOf(blob), 1, "hex");
  header.writeDoubleLE(sizeOf(blob), 33);
  yield header;
  for await (const chunk of blobs.get(blob)) {
    for (let at = 0; at < chunk.length; at += frameBytesMax) {
      const frame = chunk.subarray(at, at + frameBytesMax);
      // Not by fflate's stream, which of some bytes makes what nobody can inflate: 101arrowz/fflate issue 260.
      const small = deflateSync(frame, { level: 6 });
      yield Buffer.concat([u32(frame.length), u32(small.length), small]);
      await turn(frame.length);
    }
  }
  await turn(partCostBytes);
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
  const first = await openPart(source, kinds.manifest, undefined, manifestBytesMax, turns());
  const root = first.digest;
  const manifestBytes = await whole(first);
  const manifest = parseManifest(manifestBytes);
  const turn = turns();
  let leavesRead = 0;

  async function* leaves(): AsyncGenerator<{ readonly digest: Digest; readonly bytes: Uint8Array }> {
    while (leavesRead < manifest.leaves.length) {
      const leaf = await openPart(source, kinds.leaf, manifest.leaves[leavesRead], leafBytesMax, turn);
      const bytes = await whole(leaf);
      leavesRead++;
      yield { digest: leaf.digest, bytes };
    }
  }
  async function* blobs(): AsyncGenerator<Part> {
    // Leaves that nobody read lie before the blobs.
    for await (const { bytes } of leaves()) parseLeaf(bytes);
    for (const name of manifest.blobs) {
      const blob = await openPart(source, kinds.blob, name, Infinity, turn);
      yield blob;
      for await (const _ of blob.bytes);
    }
    const expected = source.taken();
    const end = await source.take(33);
    if (end[0] !== kinds.end || !end.subarray(1).equals(expected)) {
      throw unreadable("it must end with the SHA-256 of all before: something of it was changed");
    }
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
async function openPart(
  source: Source,
  kind: Kind,
  expected: Digest | undefined,
  bytesMax: number,
  turn: ReturnType<typeof turns>,
): Promise<Part> {
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
  const chunks = inflateFrames(source, named, turn);
  return { digest: named, bytes: { [Symbol.asyncIterator]: () => ({ next: () => chunks.next() }) } };
}

async function* inflateFrames(
  source: Source,
  named: Digest,
  turn: ReturnType<typeof turns>,
): AsyncGenerator<Uint8Array> {
  const hash = createHash("sha256");
  let left = sizeOf(named);
  for (;;) {
    const length = (await source.take(4)).readUInt32LE();
    if (length > frameBytesMax) throw unreadable(`a frame must have at most ${frameBytesMax} bytes: it has ${length}`);
    if (length === 0) break;
    if (length > left) throw unreadable(`${named} must match its bytes: there are more`);
    const deflated = (await source.take(4)).readUInt32LE();
    if (deflated > deflatedBytesMax) {
      throw unreadable(`a deflated frame must have at most ${deflatedBytesMax} bytes: it has ${deflated}`);
    }
    const chunk = inflate(await source.take(deflated), length, named);
    left -= length;
    hash.update(chunk);
    yield chunk;
    await turn(length);
  }
  await turn(partCostBytes);
  if (left > 0) throw unreadable(`${named} must match its bytes: ${left} are missing`);
  if (hash.digest("hex") !== hashOf(named)) throw unreadable(`${named} must match its bytes: they differ`);
}

/** @param length of what comes out; a byte more shows, and costs no more memory. */
function inflate(bytes: Uint8Array, length: number, named: Digest): Uint8Array {
  let chunk;
  try {
    chunk = inflateSync(bytes, { out: new Uint8Array(length + 1) });
  } catch (cause) {
    throw unreadable(`${named} must be raw DEFLATE: ${(cause as Error).message}`);
  }
  if (chunk.length !== length) throw unreadable(`${named} must match its bytes: a frame differs in length`);
  return chunk;
}

/** Pulls as many bytes as are asked for out of a stream of chunks. */
interface Source {
  /** Exactly so many bytes, at most 65 KiB. @throws {Fault} when the stream ends before. */
  take(length: number): Promise<Buffer>;
  isAtEnd(): Promise<boolean>;
  /** SHA-256 of all that was taken. */
  taken(): Buffer;
}

function pullFrom(stream: AsyncIterable<Uint8Array>): Source {
  const chunks = stream[Symbol.asyncIterator]();
  const hash = createHash("sha256");
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
      hash.update(taken);
      return taken;
    },
    taken: () => hash.copy().digest(),
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
