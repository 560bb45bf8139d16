/** What runs in a thread of the pool. */
import { parentPort } from "node:worker_threads";
import { expose } from "comlink";
import nodeEndpoint from "comlink/dist/esm/node-adapter.mjs";
import { invariant } from "../../domain/invariant.ts";
import type { Digest } from "../../domain/digest.ts";
import { fileBytes, hashFile, type ObjectFile, writeObject } from "../blobs/object_file.ts";

/** Comlink keeps no more of an error than its text; the code is what decides, so results travel as data. */
export type Answer<Value> =
  | { readonly value: Value }
  | { readonly error: { readonly code: string | undefined; readonly message: string } };

const answer = async <Value>(work: Promise<Value>): Promise<Answer<Value>> => {
  try {
    return { value: await work };
  } catch (error) {
    return { error: { code: (error as NodeJS.ErrnoException).code, message: (error as Error).message } };
  }
};

const trades = {
  hashFile: (path: string): Promise<Answer<Digest>> => answer(hashFile(path)),
  storeFile: (from: string, to: string): Promise<Answer<ObjectFile>> => answer(writeObject(fileBytes(from), to)),
};
export type Trades = typeof trades;

invariant(parentPort !== null, "the pool's worker script runs in a worker thread");
expose(trades, nodeEndpoint(parentPort));
