import { type Digest, digestOfHash, isDigest } from "../../domain/digest.ts";
import { Fault } from "../../domain/fault.ts";
import { utf8Length } from "./wire.ts";

/** Names of blobs in ByteStream calls (remote_execution.proto, "ContentAddressableStorage"). */

/** What parses a resource name from the right: an instance name cannot hold one as a segment. */
const reserved: ReadonlySet<string> = new Set([
  "blobs",
  "uploads",
  "actions",
  "actionResults",
  "operations",
  "capabilities",
  "compressed-blobs",
]);
/** In bytes of UTF-8, as the action cache has it. */
const instanceNameBytesMax = 256;
const resourceNameMax = 4_000;

export type CompressorName = "identity" | "zstd" | "deflate";

export interface BlobName {
  readonly instance: string;
  readonly compressor: CompressorName;
  readonly digest: Digest;
}
export interface UploadName extends BlobName {
  /** Chosen by the client: sets its upload apart from others of the same blob. */
  readonly uploadId: string;
}

/** @throws {Fault} `REQUEST_INVALID` for a name with a reserved segment, or an empty one. */
export function checkInstanceName(name: string): string {
  if (name === "") return name;
  const segments = name.split("/");
  const bad = segments.find((segment) => segment === "" || reserved.has(segment));
  // deno-lint-ignore no-control-regex
  if (bad === undefined && !/[\0-\x1f\x7f]/.test(name) && utf8Length(name) <= instanceNameBytesMax) return name;
  throw new Fault(
    "REQUEST_INVALID",
    `Cannot use the instance name "${name.slice(0, 200)}" as its segments must not be empty or one of ${
      [...reserved].join(", ")
    }, and it may have ${instanceNameBytesMax} bytes without control characters`,
  );
}

/** Of `[INSTANCE/]blobs/HASH/SIZE` and `[INSTANCE/]compressed-blobs/COMPRESSOR/HASH/SIZE`. @throws {Fault} `REQUEST_INVALID`. */
export function parseBlobName(name: string): BlobName {
  const segments = segmentsOf(name);
  const at = segments.findIndex((segment) => reserved.has(segment));
  const { digest, compressor, length } = blobAt(name, segments, at);
  if (segments.length !== at + length) throw badName(name, "end with the blob's size");
  return { instance: checkInstanceName(segments.slice(0, at).join("/")), compressor, digest };
}

/** Of `[INSTANCE/]uploads/ID/blobs/HASH/SIZE[/ANYTHING]`, and the same for compressed ones. @throws {Fault} `REQUEST_INVALID`. */
export function parseUploadName(name: string): UploadName {
  const segments = segmentsOf(name);
  const at = segments.findIndex((segment) => reserved.has(segment));
  const uploadId = segments[at + 1] ?? "";
  if (segments[at] !== "uploads" || uploadId === "") throw badName(name, "have uploads/ID before the blob");
  const { digest, compressor } = blobAt(name, segments, at + 2);
  return { instance: checkInstanceName(segments.slice(0, at).join("/")), uploadId, compressor, digest };
}

export interface LogName {
  readonly instance: string;
  readonly id: string;
  /** Of the name by which it is written. */
  readonly token: string | undefined;
}

/** Of `[INSTANCE/]logstreams/ID[/TOKEN]`; undefined for a name of another kind. @throws {Fault} `REQUEST_INVALID`. */
export function parseLogName(name: string): LogName | undefined {
  if (!name.includes("logstreams/") || name.length > resourceNameMax) return undefined;
  const [, instance = "", id = "", token] = /^(?:(.+)\/)?logstreams\/([^/]+)(?:\/([^/]+))?$/.exec(name) ?? [];
  if (id === "" || name.split("/").some((segment) => reserved.has(segment))) return undefined;
  return { instance: checkInstanceName(instance), id, token };
}

function segmentsOf(name: string): string[] {
  if (name.length > resourceNameMax) throw badName(name, `have at most ${resourceNameMax} characters`);
  return name.split("/");
}

function blobAt(
  name: string,
  segments: readonly string[],
  at: number,
): { readonly digest: Digest; readonly compressor: CompressorName; readonly length: number } {
  const isCompressed = segments[at] === "compressed-blobs";
  if (!isCompressed && segments[at] !== "blobs") throw badName(name, "have blobs/HASH/SIZE");
  const compressor = isCompressed ? segments[at + 1] : "identity";
  if (compressor !== "zstd" && compressor !== "deflate" && compressor !== "identity") {
    throw badName(name, "have a compressor that is spoken here: identity, zstd or deflate");
  }
  const from = at + (isCompressed ? 2 : 1);
  const [hash = "", size = ""] = segments.slice(from, from + 2);
  if (!/^[0-9a-f]{64}$/.test(hash)) {
    throw badName(name, "have a hash of 64 lower-case hex digits: SHA-256 is the one function served here");
  }
  const digest = digestOfHash(hash, Number(size));
  if (!/^[0-9]{1,16}$/.test(size) || !isDigest(digest)) throw badName(name, "have a size from 0 to 2^53-1");
  return { digest, compressor, length: from + 2 - at };
}

const badName = (name: string, must: string): Fault =>
  new Fault("REQUEST_INVALID", `Cannot use the resource name "${name.slice(0, 300)}" as it must ${must}`);
