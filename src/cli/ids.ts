import { type Digest, isDigest } from "../domain/digest.ts";
import { Fault } from "../domain/fault.ts";
import { type JobId, jobId } from "../domain/ids.ts";
import type { Client } from "../api/client.ts";
import { usage } from "./flags.ts";

const pattern = /^(j[0-9a-z]{10}-[0-9a-z]{6})(?:\/(0|[1-9][0-9]{0,6}))?$/;

/** A job, or one task of it, as a person writes it: "j01k3x9q7f-4m2d", "j01k3x9q7f-4m2d/0". @throws {Fault} `USAGE_INVALID` */
export function readTaskRef(text: string): { readonly jobId: JobId; readonly index?: number } {
  const found = pattern.exec(text);
  if (found?.[1] === undefined) {
    throw usage(
      `Cannot find a job as its id must look like j01k3x9q7fa-0004m2: current value is "${text.slice(0, 100)}"`,
    );
  }
  return { jobId: jobId(found[1]), ...(found[2] === undefined ? {} : { index: Number(found[2]) }) };
}

/** @throws {Fault} `USAGE_INVALID` */
export function readJobId(text: string): JobId {
  const { jobId, index } = readTaskRef(text);
  if (index === undefined) return jobId;
  throw usage(`Cannot do this to one task as it must be a whole job: write ${jobId} instead of ${text}`);
}

/** A snapshot by its digest ("HASH/SIZE") or by its name. @throws {Fault} `SNAPSHOT_UNKNOWN` when nothing has the name. */
export async function resolveSnapshot(client: Client, text: string): Promise<Digest> {
  if (isDigest(text)) return text;
  const found = await client.names.get(text);
  if (found !== undefined && isDigest(found)) return found;
  throw new Fault(
    "SNAPSHOT_UNKNOWN",
    `Cannot find the snapshot "${text}" as it must be a digest or a name that was given with "snapshot name": nothing has that name`,
  );
}
