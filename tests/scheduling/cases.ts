import process from "node:process";

/**
 * How many random cases are tried: as many as usual, or as the environment says for a long search
 * (`SCHEDULING_RUNS=10000`), which may name its seed as well, to be done again (`SCHEDULING_SEED=1`).
 */
export function casesOf(name: string, usual: number): { readonly numRuns: number; readonly seed?: number } {
  const seed = process.env[`${name}_SEED`];
  return {
    numRuns: Number(process.env[`${name}_RUNS`] ?? usual),
    ...(seed === undefined ? {} : { seed: Number(seed) }),
  };
}
