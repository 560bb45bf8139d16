import { createHash } from "node:crypto";
import { type Digest, digestOfHash } from "../domain/digest.ts";
import { Fault } from "../domain/fault.ts";
import { randomHex } from "../runtime/random.ts";
import type { Blobs } from "../snapshots/blobs/blobs.ts";
import type { Uploads } from "./uploads.ts";

/** One of the checksums that content must have: of Subresource Integrity, as the API has it. */
export interface Checksum {
  readonly algorithm: "sha256" | "sha384" | "sha512";
  readonly hex: string;
}

export interface Origin {
  readonly uri: string;
  readonly headers: Headers;
  /** One of them must hold; none: whatever is there is taken. */
  readonly checksums: readonly Checksum[];
}

export interface OriginOptions {
  readonly fetch: typeof fetch;
  readonly blobs: Blobs;
  readonly uploads: Uploads;
  readonly needSpace: (what: string) => void;
}

const spaceEveryBytes = 16 * 1024 * 1024;

/**
 * Fetches what lies at an address of http or https into the store.
 *
 * @throws {Fault} `ASSET_UNKNOWN` and `ASSET_REFUSED` for what its server says so of, `ASSET_CHANGED` for what has none of
 *   the checksums, `PEER_UNREACHABLE`, `NO_SPACE`; what the signal has for a reason.
 */
export async function fetchFromOrigin(
  { uri, headers, checksums }: Origin,
  { fetch, blobs, uploads, needSpace }: OriginOptions,
  signal: AbortSignal,
): Promise<Digest> {
  const shown = uri.slice(0, 300);
  needSpace("an asset");
  const response = await fetch(uri, { headers, signal }).catch((thrown) => {
    throw unreachable(shown, thrown, signal);
  });
  if (!response.ok || response.body === null) {
    await response.body?.cancel().catch(() => {});
    throw refusal(shown, response.status);
  }
  const upload = await uploads.take(`assets/${randomHex(16)}`, { onTaken: () => {}, isHashed: true });
  try {
    const hashes = new Map(checksums.map(({ algorithm }) => [algorithm, createHash(algorithm)]));
    hashes.delete("sha256"); // that is had anyway
    let untilSpace = spaceEveryBytes;
    try {
      for await (const bytes of response.body as AsyncIterable<Uint8Array>) {
        await upload.append(bytes);
        for (const hash of hashes.values()) hash.update(bytes);
        untilSpace -= bytes.length;
        if (untilSpace > 0) continue;
        needSpace("an asset");
        untilSpace = spaceEveryBytes;
      }
    } catch (thrown) {
      throw thrown instanceof Fault ? thrown : unreachable(shown, thrown, signal);
    }
    const { path, hash: sha256 } = await upload.asFile!();
    const found = new Map<Checksum["algorithm"], string>([["sha256", sha256!]]);
    for (const [algorithm, hash] of hashes) found.set(algorithm, hash.digest("hex"));
    if (checksums.length > 0 && !checksums.some(({ algorithm, hex }) => found.get(algorithm) === hex)) {
      throw new Fault(
        "ASSET_CHANGED",
        `Cannot take what lies at ${shown} as it must have the checksum that was asked for: it has SHA-256 ${sha256}`,
      );
    }
    const digest = digestOfHash(sha256!, upload.size);
    if (blobs.adopt !== undefined) await blobs.adopt(digest, { path, compressor: "identity" });
    else await blobs.put(digest, upload.read());
    return digest;
  } finally {
    await upload.close(true);
  }
}

function unreachable(shown: string, thrown: unknown, signal: AbortSignal): unknown {
  if (signal.aborted) return signal.reason;
  const { message, cause } = thrown as { message?: unknown; cause?: { message?: unknown } };
  const why = String(cause?.message ?? message).slice(0, 300);
  return new Fault("PEER_UNREACHABLE", `Cannot fetch ${shown}: ${why}`, { cause: thrown });
}

function refusal(shown: string, status: number): Fault {
  const message = `Cannot fetch ${shown}: it is answered with HTTP status ${status}`;
  if (status === 401 || status === 403) return new Fault("ASSET_REFUSED", message);
  return new Fault(status === 408 || status === 429 || status >= 500 ? "PEER_UNREACHABLE" : "ASSET_UNKNOWN", message);
}
