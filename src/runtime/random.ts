import { Buffer } from "node:buffer";
import { randomFillSync } from "node:crypto";

/** The system is asked for so many bytes at once: a call costs some 10 µs, however few it asks for. */
const pool = Buffer.allocUnsafeSlow(4_096);
let used = pool.length;

/** Bytes of the system's that nobody was given before. The view is good until the next call. */
function fresh(bytes: number): Buffer {
  if (bytes > pool.length) return randomFillSync(Buffer.allocUnsafeSlow(bytes));
  if (used + bytes > pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  used += bytes;
  return pool.subarray(used - bytes, used);
}

/** Chance, by name. */
export interface Random {
  /** An integer from 0 up to and not including `below`, which is at most 2^32. */
  integer(below: number): number;
}

export const realRandom: Random = {
  integer: (below) => Math.floor((fresh(4).readUInt32LE(0) / 2 ** 32) * below),
};

/**
 * The same seed gives the same numbers (mulberry32): for simulations and tests, never for tokens.
 *
 * @example seededRandom(1).integer(100) === seededRandom(1).integer(100)
 */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  return {
    integer(below) {
      state = (state + 0x6d2b79f5) >>> 0;
      let mixed = Math.imul(state ^ (state >>> 15), state | 1);
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
      return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
    },
  };
}

/** `bytes` random bytes as lower-case hex, for tokens and incarnations; always from the system. */
export const randomHex = (bytes: number): string => fresh(bytes).toString("hex");
