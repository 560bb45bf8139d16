import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, writeSync } from "node:fs";
import { join } from "node:path";
import { Fault } from "../domain/fault.ts";

/**
 * Makes `dir` a store of that kind and format version if it is none yet, by a marker file named "format".
 * Several processes may do so at once.
 *
 * @throws {Fault} `STORE_NEWER` when a newer program wrote the store, `STORE_CORRUPT` when it is a store of another kind.
 */
export function claimFormat(dir: string, kind: string, version: number): void {
  mkdirSync(dir, { recursive: true });
  const path = join(dir, "format");
  const text = readMarker(path);
  if (text === undefined) {
    const beside = `${path}.${process.pid}`;
    const file = openSync(beside, "w");
    try {
      writeSync(file, `scoot-actors ${kind} ${version}\n`);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(beside, path);
    syncFolder(dir);
    return;
  }
  const match = /^scoot-actors ([a-z]+) ([1-9][0-9]{0,8})\n$/.exec(text);
  if (match === null || match[1] !== kind) {
    throw new Fault(
      "STORE_CORRUPT",
      `Cannot open ${dir} as its format file must say "scoot-actors ${kind} ${version}": current value is ${
        JSON.stringify(text.slice(0, 100))
      }`,
    );
  }
  if (Number(match[2]) > version) {
    throw new Fault(
      "STORE_NEWER",
      `Cannot open ${dir} as its format must be at most ${version}: current value is ${
        match[2]
      }; use the newer program that wrote it`,
    );
  }
}

function readMarker(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** Makes the names in a folder survive a power cut. */
export function syncFolder(path: string): void {
  const folder = openSync(path, "r");
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}
