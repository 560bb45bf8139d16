import { existsSync } from "node:fs";
import { join } from "node:path";
import type { SealedJobs } from "../api/job_files.ts";
import { Fault, isFault } from "../domain/fault.ts";
import { jobAddress, type JobId } from "../domain/ids.ts";
import { type Clock, sleep } from "../runtime/clock.ts";
import type { Blobs } from "../snapshots/blobs/blobs.ts";
import { localStates } from "../snapshots/states/local.ts";
import { importSealed, readTree, sealJob } from "../snapshots/states/seal.ts";
import type { States } from "../snapshots/states/states.ts";

export interface SealedJobsOptions {
  readonly blobs: Blobs;
  readonly clock: Clock;
  /** The scheduler's states, which may be a little behind; undefined where they cannot be read. Asked at each export. */
  readonly states: () => Promise<States | undefined>;
}

/** The states in a folder, opened for reading when they are first asked for: the scheduler makes them. */
export function readableStates(dir: string, clock: Clock) {
  let opened: Promise<States> | undefined;
  return {
    get(): Promise<States | undefined> {
      if (opened === undefined && !existsSync(join(dir, "format"))) return Promise.resolve(undefined);
      opened ??= localStates({ dir, clock, readOnly: true }).catch((thrown) => {
        opened = undefined;
        throw thrown;
      });
      return opened;
    },
    async close(): Promise<void> {
      await (await opened)?.close();
    },
  };
}

/** Who reads what another process writes may be a second behind it. */
const behindMsMax = 5_000;
const lookAgainMs = 20;

export function sealedJobs({ blobs, clock, states }: SealedJobsOptions): SealedJobs {
  return {
    async *seal({ jobId, seq, digests }) {
      const readable = await states();
      if (readable === undefined) {
        throw new Fault(
          "REQUEST_INVALID",
          `Cannot export job ${jobId} as this gateway must share its data folder with the scheduler: it does not. Export it from a gateway on the scheduler's machine, started with the same --data`,
        );
      }
      await seen(readable, jobId, seq);
      const addresses = [jobAddress(jobId), `task/${jobId}/`];
      yield* sealJob({ states: readable, blobs, digests, addresses });
    },
    async open(stream) {
      const chunks = stream[Symbol.asyncIterator]();
      let root;
      try {
        root = await importSealed({ stream: { [Symbol.asyncIterator]: () => chunks }, blobs });
      } catch (thrown) {
        // The file is the one who asks' own: neither is our store harmed, nor was it made by a newer version.
        if (!isFault(thrown, "STORE_CORRUPT") && !isFault(thrown, "STORE_NEWER")) throw thrown;
        throw new Fault("REQUEST_INVALID", thrown.message, { cause: thrown });
      } finally {
        await chunks.return?.(); // of a file that is refused the rest is not read
      }
      return (await readTree({ blobs, root })).entries;
    },
  };

  /** Resolves when the job's newest entry is there. */
  async function seen(readable: States, jobId: JobId, seq: number): Promise<void> {
    const untilMs = clock.now() + behindMsMax;
    for (;;) {
      const entry = await readable.get(jobAddress(jobId));
      if (entry !== undefined && entry.seq >= seq) return;
      if (clock.now() >= untilMs) {
        throw new Fault(
          "REQUEST_INVALID",
          `Cannot export job ${jobId} as the states that this gateway reads must have its entry ${seq}: they have ${
            entry?.seq ?? "none"
          } of it. They may be another scheduler's`,
        );
      }
      await sleep(clock, lookAgainMs);
    }
  }
}
