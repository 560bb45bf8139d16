import { Fault } from "./fault.ts";

declare const brand: unique symbol;
/** An interface, so that the declarations of other modules can name it. */
export interface DigestBrand {
  readonly [brand]: "Digest";
}
/**
 * What names a blob: the lower-case hex SHA-256 of its raw bytes, a slash, its size in bytes: "e3b0…b855/0".
 * (REAPI `Digest`; another digest function will stand before the hash, as REAPI's resource names have it.)
 */
export type Digest = string & DigestBrand;

const pattern = /^[0-9a-f]{64}\/(0|[1-9][0-9]{0,15})$/;

export const emptyDigest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855/0" as Digest;

export const isDigest = (text: string): text is Digest =>
  pattern.test(text) && Number.isSafeInteger(Number(text.slice(65)));

export const digestOfHash = (hash: string, sizeBytes: number): Digest => `${hash}/${sizeBytes}` as Digest;
export const hashOf = (digest: Digest): string => digest.slice(0, 64);
export const sizeOf = (digest: Digest): number => Number(digest.slice(65));

/** @throws {Fault} `DIGEST_INVALID` with the text that was given. */
export function parseDigest(text: string): Digest {
  if (isDigest(text)) return text;
  throw new Fault(
    "DIGEST_INVALID",
    `Cannot read a digest as it must be 64 lower-case hex digits, a slash and a size: current value is "${
      text.slice(0, 100)
    }"`,
  );
}
