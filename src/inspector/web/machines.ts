import type { Chart } from "../charts.ts";
import { ask } from "./data.ts";

let kept: Promise<Readonly<Record<string, Chart>>> | undefined;

/** The drawings of the machines by kind: they are the same as long as the page is. */
export function machines(): Promise<Readonly<Record<string, Chart>>> {
  kept ??= ask<Readonly<Record<string, Chart>>>("/v1/inspect/charts").catch((error) => {
    kept = undefined;
    throw error;
  });
  return kept;
}
