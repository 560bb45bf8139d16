import { existsSync, readdirSync, statSync, unlinkSync } from "node:fs";
import { readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { type Digest, sizeOf } from "../../domain/digest.ts";
import { Fault } from "../../domain/fault.ts";
import type { Clock } from "../../runtime/clock.ts";
import { diskOf, hasRoom, lmdbFault } from "../lmdb_fault.ts";
import { lockStore } from "../states/lock.ts";
import { openSharedIndex } from "../shared_index.ts";
import { deflated, deflateSmall, type Encoding, isReadable, raw } from "./deflate.ts";
import type { HeldBlob, HeldBlobs, Taken } from "./held.ts";
import {
  type Facts,
  fileBytesAtRest,
  keyOf,
  readBytes,
  readFacts,
  smallBytesAtRest,
  usedAt,
  writeBytes,
  writeFacts,
} from "./index_rows.ts";
import { rowWriter } from "./row_writer.ts";

/** The index may grow to this; address space, not memory or disk. */
const mapBytes = 2 ** 38;
/** Rows that are changed while others may not write: about 5 ms. */
const rowsPerCommit = 1000;
/** What a row may change on the disk. */
const rowPagesBytes = 256;
/** A file without a row may be on its way to one; this long after its last byte it is not. */
const orphanAgeMs = 3600_000;
/** Where the bytes of all files are counted, in the table of totals. */
const filesKey = Buffer.from("files");

export interface BlobIndexOptions {
  readonly dir: string;
  readonly clock: Clock;
  readonly guaranteedAgeMs: number;
}

/** Which blobs a store on this machine's disk holds: an LMDB environment that several processes write. */
export interface BlobIndex {
  /** @param isFresh sure to see what any process has committed by now: within a turn, LMDB shows one moment. */
  facts(digest: Digest, isFresh?: boolean): Facts | undefined;
  /** How large the blob of that hash is, as of now. */
  sizeOfHash(hash: string): number | undefined;
  /** A small blob as it is stored; a view that the next read overwrites. */
  small(digest: Digest): { readonly encoding: Encoding; readonly body: Buffer } | undefined;
  /** Whether the use of that blob should be noted. */
  isStale(facts: Facts): boolean;
  /** Notes that blobs are wanted. @returns those that are not there any more. */
  noteUses(digests: Iterable<Digest>): Promise<readonly Digest[]>;
  putSmall(digest: Digest, bytes: Uint8Array): Promise<void>;
  /**
   * Gives a blob its file, which lies under its name already, unless it has another: whether it did.
   * One that it had and that is gone is replaced.
   */
  putFile(digest: Digest, encoding: Encoding, file: string, storedBytes: number): Promise<boolean>;
  readonly held: HeldBlobs;
  close(): Promise<void>;
}

/** @param objects how the files of large blobs are named. */
export function blobIndex(
  { dir, clock, guaranteedAgeMs }: BlobIndexOptions,
  objects: ObjectNames,
): BlobIndex {
  const root = openSharedIndex({ dir, mapBytes, databasesMax: 4 });
  const table = (name: string) =>
    root.openDB<Uint8Array, Uint8Array>(name, { encoding: "binary", keyEncoding: "binary" });
  const factsRows = table("facts");
  const bytesRows = table("bytes");
  const totals = table("totals");
  const writer = rowWriter(root, (bytes) => hasRoom(dir, bytes));
  /** An age is promised from the last note on: that may be so old already when it is relied on. */
  const noteEveryMs = Math.min(3600_000, Math.floor(guaranteedAgeMs / 4));
  let isClosed = false;

  const secondsNow = (): number => Math.floor(clock.now() / 1000);
  const assertOpen = (): void => {
    if (isClosed) throw new Fault("DRAINING", `Cannot use the blob store in ${dir} as it must be open: it was closed`);
  };
  const refresh = (): void => {
    assertOpen();
    root.resetReadTxn();
  };

  function factsNow(digest: Digest): Facts | undefined {
    assertOpen();
    const row = factsRows.getBinaryFast(keyOf(digest));
    const facts = row === undefined ? undefined : readFacts(row);
    return facts?.size === sizeOf(digest) ? facts : undefined;
  }
  const isStale = ({ usedAtSeconds }: Facts): boolean => (secondsNow() - usedAtSeconds) * 1000 >= noteEveryMs;

  /** Runs `act` while nobody else writes, in any process; what it wrote is durable when this resolves, or not there. */
  async function transact<Answer>(doing: string, bytes: number, act: () => Answer): Promise<Answer> {
    assertOpen();
    try {
      return await root.transaction(act);
    } catch (error) {
      throw await lmdbFault(error, doing, () => !hasRoom(dir, bytes));
    }
  }

  const filesTotal = (): number => totals.getBinary(filesKey)?.readUIntBE(0, 6) ?? 0;
  /** To be called in a transaction. */
  function countFiles(changeBytes: number): void {
    if (changeBytes === 0) return;
    const value = Buffer.alloc(6);
    value.writeUIntBE(Math.max(0, filesTotal() + changeBytes), 0, 6);
    totals.putSync(filesKey, value);
  }

  const held: HeldBlobs = {
    guaranteedAgeMs,
    noteEveryMs,
    page(after, limit) {
      refresh();
      const start = after === undefined ? Buffer.of(0) : Buffer.concat([after, Buffer.of(0)]);
      const page: HeldBlob[] = [];
      for (const { key, value } of factsRows.getRange({ start, limit })) {
        const facts = readFacts(Buffer.from(value));
        page.push({ key: Buffer.from(key), bytes: facts.bytesAtRest, usedAtMs: facts.usedAtSeconds * 1000 });
      }
      return page;
    },
    async remove(keys, beforeMs) {
      let count = 0;
      let bytes = 0;
      for (let at = 0; at < keys.length; at += rowsPerCommit) {
        const group = keys.slice(at, at + rowsPerCommit);
        const files: string[] = [];
        const taken = await transact("Cannot remove blobs", group.length * rowPagesBytes, (): Taken => {
          let groupBytes = 0;
          let groupCount = 0;
          let fileBytes = 0;
          for (const key of group) {
            const row = factsRows.getBinary(key);
            if (row === undefined) continue;
            const facts = readFacts(row);
            if (facts.usedAtSeconds * 1000 >= beforeMs) continue;
            factsRows.removeSync(key);
            if (facts.file === undefined) bytesRows.removeSync(key);
            else {
              files.push(objects.pathOf(Buffer.from(key).toString("hex"), facts.encoding, facts.file));
              fileBytes += facts.bytesAtRest;
            }
            groupBytes += facts.bytesAtRest;
            groupCount++;
          }
          countFiles(-fileBytes);
          return { count: groupCount, bytes: groupBytes };
        });
        // After the rows: dying here leaves files without rows, never rows without files. Nobody else has these names.
        for (const file of files) await rm(file, { force: true });
        count += taken.count;
        bytes += taken.bytes;
      }
      return { count, bytes };
    },
    async removeOrphans(signal) {
      let count = 0;
      let bytes = 0;
      for (const folder of await readdir(objects.dir)) {
        signal?.throwIfAborted();
        await turn();
        refresh();
        const names = readdirSync(join(objects.dir, folder)).filter((name) => isOrphan(folder, name));
        for (const name of names) {
          const file = join(objects.dir, folder, name);
          const found = await stat(file).catch(() => undefined);
          if (found === undefined || clock.now() - found.mtimeMs < orphanAgeMs) continue;
          // While nobody else writes: a writer looks for its file when it writes the row.
          const isRemoved = await transact("Cannot remove files", 0, () => {
            if (!isOrphan(folder, name)) return false;
            unlinkSync(file);
            return true;
          });
          if (!isRemoved) continue;
          count++;
          bytes += fileBytesAtRest(found.size);
        }
      }
      return { count, bytes };
    },
    size() {
      refresh();
      let pages = 0;
      let count = 0;
      for (const rows of [factsRows, bytesRows, totals]) {
        const stats = rows.getStats() as Record<string, number>;
        pages += ["treeBranchPageCount", "treeLeafPageCount", "overflowPages"]
          .reduce((sum, each) => sum + (stats[each] ?? 0), 0) * (stats["pageSize"] ?? 4096);
        if (rows === factsRows) count = stats["entryCount"] ?? 0;
      }
      const unused = Math.max(0, statSync(join(dir, "index", "data.mdb")).size - pages);
      const { freeBytes, totalBytes } = diskOf(dir);
      return { count, bytes: pages + filesTotal(), freeBytes: freeBytes + unused, diskBytes: totalBytes };
    },
    async alone(act) {
      const lock = await lockStore(join(dir, "collecting"));
      try {
        return await act();
      } finally {
        await lock.release();
      }
    },
  };

  function isOrphan(folder: string, name: string): boolean {
    const hash = objects.hashOf(folder, name);
    if (hash === undefined) return false; // nothing of this store's
    const row = factsRows.getBinaryFast(Buffer.from(hash, "hex"));
    if (row === undefined) return true;
    const { file, encoding } = readFacts(row);
    return file === undefined || objects.pathOf(hash, encoding, file) !== join(objects.dir, folder, name);
  }

  return {
    facts(digest, isFresh = false) {
      if (isFresh) refresh();
      return factsNow(digest);
    },
    sizeOfHash(hash) {
      refresh();
      const row = factsRows.getBinaryFast(Buffer.from(hash, "hex"));
      return row === undefined ? undefined : readFacts(row).size;
    },
    small(digest) {
      assertOpen();
      const read = () => {
        const row = bytesRows.getBinaryFast(keyOf(digest));
        return row === undefined ? undefined : readBytes(row, digest);
      };
      const found = read();
      if (found !== undefined) return found;
      refresh();
      return read();
    },
    isStale,

    /*
     * A note is written only beside the blob's facts, while nobody else writes: a collector, which looks at both in the
     * same way, either sees the note or was there before.
     */
    async noteUses(digests) {
      const now = secondsNow();
      const wanted: Digest[] = [];
      for (const digest of digests) {
        const facts = factsNow(digest);
        if (facts === undefined || isStale(facts)) wanted.push(digest);
      }
      const gone: Digest[] = [];
      for (let at = 0; at < wanted.length; at += rowsPerCommit) {
        const group = wanted.slice(at, at + rowsPerCommit);
        await transact("Cannot note that blobs are wanted", group.length * rowPagesBytes, () => {
          for (const digest of group) {
            const key = keyOf(digest);
            const row = factsRows.getBinary(key);
            if (row === undefined || readFacts(row).size !== sizeOf(digest)) gone.push(digest);
            else factsRows.putSync(key, usedAt(row, now));
          }
        });
      }
      return gone;
    },

    putSmall: (digest, bytes) =>
      writer.write(bytes.length, () => {
        const small = deflateSmall(bytes);
        const encoding = small === undefined ? raw : deflated;
        const body = small ?? bytes;
        const key = keyOf(digest);
        const facts = writeFacts({
          usedAtSeconds: secondsNow(),
          size: bytes.length,
          bytesAtRest: smallBytesAtRest(body.length),
          encoding,
          file: undefined,
        });
        // The bytes first: LMDB may commit a batch in two when another transaction has to come between.
        return [
          { rows: bytesRows, key, value: writeBytes(bytes.length, encoding, body) },
          { rows: factsRows, key, value: facts },
        ];
      }),

    putFile: (digest, encoding, file, storedBytes) =>
      transact(`Cannot store blob ${digest}`, 3 * 4096, () => {
        const key = keyOf(digest);
        const row = factsRows.getBinary(key);
        const before = row === undefined ? undefined : readFacts(row);
        const hash = key.toString("hex");
        const isWhole = before !== undefined &&
          (before.file === undefined ||
            isReadable(before.encoding) && existsSync(objects.pathOf(hash, before.encoding, before.file)));
        if (isWhole) {
          factsRows.putSync(key, usedAt(row!, secondsNow()));
          return false;
        }
        if (!existsSync(objects.pathOf(hash, encoding, file))) {
          throw new Fault("STORE_CORRUPT", `Cannot store blob ${digest} as its file must stay: it was taken away`);
        }
        const bytesAtRest = fileBytesAtRest(storedBytes);
        factsRows.putSync(
          key,
          writeFacts({ usedAtSeconds: secondsNow(), size: sizeOf(digest), bytesAtRest, encoding, file }),
        );
        countFiles(bytesAtRest - (before?.file === undefined ? 0 : before.bytesAtRest));
        return true;
      }),

    held,

    async close() {
      if (isClosed) return;
      isClosed = true;
      await writer.idle();
      await root.close();
    },
  };
}

/** How files of blobs are named. */
export interface ObjectNames {
  readonly dir: string;
  pathOf(hash: string, encoding: Encoding, file: string): string;
  /** The hash in a file's name; undefined for a name that is not like any of this store's. */
  hashOf(folder: string, name: string): string | undefined;
}
