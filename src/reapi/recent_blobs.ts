import { type Digest, sizeOf } from "../domain/digest.ts";

/**
 * Blobs that were found present a moment ago, so that a client which asks for thousands again and again is answered
 * without a look at the store. Digests are compared as the bytes that requests have them in: a string for each costs more
 * than all the rest. A store keeps what it reported present for at least its guaranteed age; what is answered from here
 * stays for what it is remembered less: of an age of hours that is nothing, of one of seconds it is at most a quarter.
 */
export interface RecentBlobs {
  /** @param at where in the bytes the hash is, as 64 hex digits. */
  has(bytes: Uint8Array, at: number, sizeBytes: number, nowMs: number): boolean;
  /** It was found present at that time. */
  note(digest: Digest, nowMs: number): void;
}

const rememberedMsMax = 10_000;

/** How long a blob may be taken for present without another look. */
export const rememberedMsOf = (guaranteedAgeMs: number): number =>
  Math.min(rememberedMsMax, Math.floor(guaranteedAgeMs / 4));

const hashBytes = 64;

/**
 * @param rememberedMs see {@link rememberedMsOf}.
 * @param places how many it remembers at most, a power of two; each has one place, and takes another's: 80 bytes each.
 */
export function recentBlobs(rememberedMs: number, places = 2 ** 16): RecentBlobs {
  const hashes = new Uint8Array(places * hashBytes);
  const sizes = new Float64Array(places);
  const foundAtMs = new Float64Array(places).fill(-Infinity);
  /** The first digits of a hash are as good as chance: four bits in each. */
  const placeOf = (bytes: Uint8Array, at: number): number => {
    let number = 0;
    for (let digit = 0; digit < 7; digit++) {
      const byte = bytes[at + digit]!;
      number = (number << 4) | ((byte & 15) + (byte >> 6) * 9);
    }
    return number & (places - 1);
  };
  return {
    has(bytes, at, sizeBytes, nowMs) {
      const place = placeOf(bytes, at);
      const ageMs = nowMs - foundAtMs[place]!;
      if (sizes[place] !== sizeBytes || !(ageMs >= 0 && ageMs <= rememberedMs)) return false; // clocks go back, too
      const from = place * hashBytes;
      for (let byte = 0; byte < hashBytes; byte++) if (hashes[from + byte] !== bytes[at + byte]) return false;
      return true;
    },
    note(digest, nowMs) {
      const digits = new Uint8Array(hashBytes);
      for (let digit = 0; digit < hashBytes; digit++) digits[digit] = digest.charCodeAt(digit);
      const place = placeOf(digits, 0);
      hashes.set(digits, place * hashBytes);
      sizes[place] = sizeOf(digest);
      foundAtMs[place] = nowMs;
    },
  };
}

/** A FindMissingBlobsRequest, of which only what is not remembered was decoded. */
export interface QuickRequest {
  readonly instanceName: string;
  readonly digestFunction: number;
  readonly unknown: readonly { readonly hash: string; readonly sizeBytes: number }[];
}

/** Field 2 of the request: a digest. */
const digestTag = 0x12;

/**
 * Reads a request in the one form in which clients write it: digests of SHA-256 with sizes below 2^28.
 *
 * @returns undefined for any other, which is for the decoder.
 */
export function readQuickly(bytes: Uint8Array, recent: RecentBlobs, nowMs: number): QuickRequest | undefined {
  const unknown: { hash: string; sizeBytes: number }[] = [];
  let instanceName = "";
  let digestFunction = 0;
  let at = 0;
  const text = (from: number, to: number): string => (bytes as Buffer).toString("utf8", from, to);
  while (at < bytes.length) {
    const tag = bytes[at]!;
    const length = bytes[at + 1] ?? 0x80;
    if (length >= 0x80) return undefined;
    const from = at + 2;
    const end = from + length;
    if (tag === digestTag) {
      if (end > bytes.length || length < 68 || length > 71) return undefined;
      if (bytes[from] !== 0x0a || bytes[from + 1] !== hashBytes || bytes[from + 66] !== 0x10) return undefined;
      let sizeBytes = 0;
      let shift = 0;
      for (let place = from + 67; place < end; place++, shift += 7) {
        const byte = bytes[place]!;
        if (byte >= 0x80 !== place < end - 1) return undefined; // more follow exactly until the last
        sizeBytes |= (byte & 0x7f) << shift;
      }
      if (!recent.has(bytes, from + 2, sizeBytes, nowMs)) {
        unknown.push({ hash: text(from + 2, from + 66), sizeBytes });
      }
      at = end;
    } else if (tag === 0x0a) {
      if (end > bytes.length) return undefined;
      instanceName = text(from, end);
      at = end;
    } else if (tag === 0x18) {
      digestFunction = length;
      at = from;
    } else return undefined;
  }
  return { instanceName, digestFunction, unknown };
}
