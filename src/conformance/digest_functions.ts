import { createHash } from "node:crypto";
import type { WireDigest } from "../protocol/reapi/codec.ts";

/** `DigestFunction.Value`. */
export const digestFunctions = { SHA256: 1, SHA1: 2, MD5: 3, SHA384: 5, SHA512: 6, BLAKE3: 9 } as const;

const computable: Readonly<Record<number, string>> = {
  [digestFunctions.SHA256]: "sha256",
  [digestFunctions.SHA1]: "sha1",
  [digestFunctions.MD5]: "md5",
  [digestFunctions.SHA384]: "sha384",
  [digestFunctions.SHA512]: "sha512",
};

/** undefined for a function that this runtime cannot compute. */
export function hashWith(digestFunction: number, bytes: Uint8Array): WireDigest | undefined {
  const algorithm = computable[digestFunction];
  if (algorithm === undefined) return undefined;
  return { hash: createHash(algorithm).update(bytes).digest("hex"), sizeBytes: bytes.length };
}
