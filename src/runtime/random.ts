import { randomBytes } from "node:crypto";

/** Chance, by name. */
export interface Random {
  /** An integer from 0 up to and not including `below`, which is at most 2^32. */
  integer(below: number): number;
}

export const realRandom: Random = {
  integer: (below) => Math.floor((randomBytes(4).readUInt32LE(0) / 2 ** 32) * below),
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
export const randomHex = (bytes: number): string => randomBytes(bytes).toString("hex");
