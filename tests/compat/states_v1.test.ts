import { Buffer } from "node:buffer";
import { cpSync, createReadStream } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import type { Address } from "../../src/domain/ids.ts";
import { realClock } from "../../src/runtime/clock.ts";
import { localStates } from "../../src/snapshots/states/local.ts";
import { collect } from "../snapshots/states/contract.ts";
import { temporaryFolder } from "../snapshots/temporary_folder.ts";
import { openSealed } from "../../src/snapshots/states/seal.ts";
import { isInternal, storeV1 } from "./states_v1.ts";

const fixture = fileURLToPath(new URL("./states_v1/", import.meta.url));

describe("a store of states of format 1", () => {
  /** A copy, as opening it for writing changes it. */
  const copy = (without?: string): string => {
    const dir = join(temporaryFolder(), "store");
    cpSync(join(fixture, "store"), dir, {
      recursive: true,
      filter: (path) => without === undefined || !path.endsWith(without),
    });
    return dir;
  };

  test.each([["with its index", undefined], ["without its index", "/index"]])(
    "%s can be loaded, and written on",
    async (_, without) => {
      const states = await localStates({ dir: copy(without), clock: realClock });
      const { entries, unsent, firstSeq } = storeV1;
      expect(await states.bounds()).toMatchObject({ firstSeq, lastSeq: entries.length });
      expect(await states.tail(isInternal)).toEqual({ lastSeq: entries.length, lastEpoch: 2, unsent });
      expect(await collect(states.history("task/"))).toEqual(
        entries.filter(({ address, seq }) => seq >= firstSeq && address.startsWith("task/")),
      );
      expect(await states.get("worker/idle" as Address)).toEqual(entries[1]);
      for (let seq = firstSeq; seq <= entries.length; seq++) {
        const newest = new Map(entries.slice(0, seq).map((entry) => [entry.address, entry]));
        const alive = [...newest.values()].filter(({ state }) => state !== null);
        expect(await collect(states.cut(seq))).toEqual(alive.sort((a, b) => (a.address < b.address ? -1 : 1)));
      }
      await states.commit([{ ...entries[1]!, seq: entries.length + 1 }]);
      await states.close();
    },
  );
});

test("a sealed job of format 1 can be read", async () => {
  const { manifest, entries, blobs } = await openSealed(createReadStream(join(fixture, "job.sealed")));
  const { firstSeq } = storeV1;
  // What each task was when the kept history begins, then all that it did.
  const kept = storeV1.entries.filter(({ address, seq }, _, all) =>
    address.startsWith("task/") &&
    (seq >= firstSeq || !all.some((later) => later.address === address && later.seq > seq && later.seq < firstSeq))
  );
  expect(await collect(entries)).toEqual(
    kept.sort((a, b) => a.address < b.address ? -1 : a.address > b.address ? 1 : a.seq - b.seq),
  );
  expect(manifest.absent).toHaveLength(1);
  const payloads: string[] = [];
  for await (const { bytes } of blobs) payloads.push(Buffer.concat(await collect(bytes)).toString());
  expect(payloads).toEqual([storeV1.payload]);
});
