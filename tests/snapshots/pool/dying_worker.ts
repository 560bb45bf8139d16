/** Stands in for the pool's worker: dies of "exit" and "throw", and gives any other text back. */
import { parentPort } from "node:worker_threads";
import { expose } from "comlink";
import nodeEndpoint from "comlink/dist/esm/node-adapter.mjs";

const trades = {
  hashFile(way: string) {
    if (way === "exit") process.exit(3);
    if (way === "throw") {
      setTimeout(() => {
        throw new Error("out of order");
      });
    }
    return way === "throw" ? new Promise(() => {}) : { value: way };
  },
};
if (parentPort !== null) expose(trades, nodeEndpoint(parentPort));
