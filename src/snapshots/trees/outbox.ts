import { createReadStream } from "node:fs";
import { type Digest, sizeOf } from "../../domain/digest.ts";
import { isFault } from "../../domain/fault.ts";
import { type Blobs, digestOf, isMissing } from "../blobs/blobs.ts";
import { readFile } from "node:fs/promises";

/** Thrown when a file is no longer what the stat cache said, which is then not to be believed. */
export class CacheMistaken extends Error {}

/** How a store takes a file by itself, where it can. */
export type PutFile = (
  path: string,
  options: { readonly expected: Digest; readonly signal?: AbortSignal },
) => Promise<Digest>;

export interface OutboxOptions {
  readonly blobs: Blobs;
  readonly putFile?: PutFile | undefined;
  readonly signal?: AbortSignal | undefined;
}

interface Parcel {
  readonly bytes: Uint8Array;
  readonly isFile: boolean;
}

/** Blobs that should be there, and in the same order the files that hold their bytes. */
class Known {
  readonly digests = new Set<Digest>();
  readonly paths: string[] = [];
}

/** One question to the store is about at most so many blobs. */
const batchBlobsMax = 512;
const batchBytesMax = 4 * 1024 * 1024;
/** Blobs that were there before are asked after in larger groups: mostly the answer is "none is missing". */
const knownBlobsMax = 10_000;
/** So many bytes may wait for the store. */
const waitingBytesMax = 32 * 1024 * 1024;
/** Files of more bytes pass through in chunks. */
export const wholeBytesMax = 4 * 1024 * 1024;

/** Sends a store what it lacks, in groups, with a bound on what waits. The first failure ends it. */
export class Outbox {
  sentFiles = 0;
  sentBytes = 0;
  #options: OutboxOptions;
  #offered = new Set<Digest>();
  #batch = new Map<Digest, Parcel>();
  #batchBytes = 0;
  #known = new Known();
  #sending = new Set<Promise<void>>();
  #waitingBytes = 0;
  #failure: { readonly error: unknown } | undefined;

  constructor(options: OutboxOptions) {
    this.#options = options;
  }

  /** Takes bytes, which must not change any more. */
  offer(digest: Digest, bytes: Uint8Array, isFile: boolean): void {
    if (this.#offered.has(digest)) return;
    this.#offered.add(digest);
    this.#batch.set(digest, { bytes, isFile });
    this.#batchBytes += bytes.length;
    this.#waitingBytes += bytes.length;
    if (this.#batch.size >= batchBlobsMax || this.#batchBytes >= batchBytesMax) this.#sendBatch();
  }

  /** Takes the name of bytes that a file should hold; it is read only if the store lacks them. */
  offerKnown(digest: Digest, path: string): void {
    const { digests, paths } = this.#known;
    digests.add(digest);
    if (digests.size === paths.length) return; // it was there
    paths.push(path);
    if (paths.length >= knownBlobsMax) this.#sendKnown();
  }

  /**
   * Stores a large file now, if the store lacks it.
   *
   * @param isWhole false when only the first bytes, as many as the digest says, are meant.
   * @throws {Fault} `BLOB_CORRUPT` when the file does not hold that any more.
   */
  async sendLarge(digest: Digest, path: string, isWhole: boolean): Promise<void> {
    if (this.#offered.has(digest)) return;
    const { blobs, putFile, signal } = this.#options;
    if (await isMissing(blobs, digest)) {
      const options = signal === undefined ? {} : { signal };
      if (putFile !== undefined && isWhole) await putFile(path, { expected: digest, ...options });
      else await blobs.put(digest, fileStart(path, sizeOf(digest)), options);
      this.#count(digest, true);
    }
    this.#offered.add(digest);
  }

  /** Stores a large file that is not on the disk now, if the store lacks it. @param open starts to read it. */
  async sendStream(digest: Digest, open: () => AsyncIterable<Uint8Array>): Promise<void> {
    if (this.#offered.has(digest)) return;
    const { blobs, signal } = this.#options;
    if (await isMissing(blobs, digest)) {
      await blobs.put(digest, open(), signal === undefined ? {} : { signal });
      this.#count(digest, true);
    }
    this.#offered.add(digest);
  }

  get isFull(): boolean {
    return this.#waitingBytes >= waitingBytesMax;
  }

  /** Resolves when more may be offered. @throws what the store threw. */
  async room(): Promise<void> {
    while (this.isFull && this.#failure === undefined) {
      if (this.#sending.size === 0) this.#sendBatch();
      await Promise.race(this.#sending);
    }
    this.#throwFailure();
  }

  /** Resolves when the store has all that was offered. @throws what it threw. */
  async finish(): Promise<void> {
    this.#sendBatch();
    this.#sendKnown();
    while (this.#sending.size > 0) await Promise.race(this.#sending);
    this.#throwFailure();
  }

  /** Resolves when nothing is under way any more, however that ended. */
  async settle(): Promise<void> {
    while (this.#sending.size > 0) await Promise.race(this.#sending);
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  #count(digest: Digest, isFile: boolean): void {
    if (isFile) this.sentFiles++;
    this.sentBytes += sizeOf(digest);
  }

  #sendBatch(): void {
    if (this.#batch.size === 0) return;
    this.#send(this.#deliver(this.#batch), this.#batchBytes);
    this.#batch = new Map();
    this.#batchBytes = 0;
  }

  #sendKnown(): void {
    if (this.#known.paths.length === 0) return;
    this.#send(this.#deliverKnown(this.#known), 0);
    this.#known = new Known();
  }

  #send(delivery: Promise<void>, bytes: number): void {
    const sent = delivery.catch((error: unknown) => {
      this.#failure ??= { error };
    }).finally(() => {
      this.#waitingBytes -= bytes;
      this.#sending.delete(sent);
    });
    this.#sending.add(sent);
  }

  async #deliver(parcels: ReadonlyMap<Digest, Parcel>): Promise<void> {
    const { blobs, signal } = this.#options;
    const puts: Promise<void>[] = [];
    for (const digest of await blobs.missing(new Set(parcels.keys()))) {
      const { bytes, isFile } = parcels.get(digest)!;
      puts.push(blobs.put(digest, bytes, signal === undefined ? {} : { signal }));
      this.#count(digest, isFile);
    }
    await allOrFirstFailure(puts);
  }

  async #deliverKnown({ digests, paths }: Known): Promise<void> {
    const missing = await this.#options.blobs.missing(digests);
    if (missing.size === 0) return;
    let place = 0;
    for (const digest of digests) {
      const path = paths[place++]!;
      if (missing.has(digest) && !this.#offered.has(digest)) await this.#deliverFile(digest, path);
    }
  }

  /** One at a time: this is for the rare blobs that a store has lost, or that another store has. */
  async #deliverFile(digest: Digest, path: string): Promise<void> {
    const { blobs, signal } = this.#options;
    signal?.throwIfAborted();
    try {
      if (sizeOf(digest) > wholeBytesMax) {
        return await this.sendLarge(digest, path, true);
      }
      const bytes = await readFile(path);
      if (digestOf(bytes) !== digest) throw new CacheMistaken(path);
      await blobs.put(digest, bytes, signal === undefined ? {} : { signal });
      this.#count(digest, true);
    } catch (error) {
      if (isFault(error, "BLOB_CORRUPT") || (error as NodeJS.ErrnoException).code === "ENOENT") {
        throw new CacheMistaken(path, { cause: error });
      }
      throw error;
    }
  }
}

/** The first bytes of a file, in chunks; fewer when it has become shorter. It is opened when the first is wanted. */
export async function* fileStart(path: string, length: number): AsyncGenerator<Uint8Array> {
  if (length > 0) yield* createReadStream(path, { end: length - 1, highWaterMark: 1024 * 1024 });
}

/** Waits for all, so that nothing goes on behind the caller's back, then throws the first failure. */
async function allOrFirstFailure(promises: readonly Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(promises)) if (result.status === "rejected") throw result.reason;
}
