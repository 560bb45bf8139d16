import { Worker } from "node:worker_threads";
import { type Remote, wrap } from "comlink";
import nodeEndpoint from "comlink/dist/esm/node-adapter.mjs";
import type { Digest } from "../../domain/digest.ts";
import { Fault } from "../../domain/fault.ts";
import type { ObjectFile } from "../blobs/object_file.ts";
import type { Answer, Trades } from "./worker.ts";

/**
 * Threads that hash and deflate large files, so that this thread goes on answering. A call costs about 60 µs and, once,
 * the start of a thread; small bytes are quicker done in place.
 *
 * Every call rejects with `INTERNAL` when its thread dies; the next call gets another thread.
 */
export interface Pool {
  /** The digest of a file's bytes. Errors of the file system keep their code (`ENOENT`, …). */
  hashFile(path: string): Promise<Digest>;
  /** Writes a file's bytes to a new file as a store keeps them, hashed, deflated where it is worth it, synced. */
  storeFile(from: string, to: string): Promise<ObjectFile>;
  /** Ends all threads; calls under way and waiting reject with `DRAINING`. */
  close(): Promise<void>;
}

interface Thread {
  readonly worker: Worker;
  readonly remote: Remote<Trades>;
  /** Rejects when the thread ends; Comlink would wait for ever. */
  readonly died: Promise<never>;
}

export interface ThreadPoolOptions {
  /** At most so many threads, started when they are first needed. Calls beyond wait in line. */
  readonly threads: number;
  /** What a thread runs: the pool's own trades, or a stand-in that fails as a test wants. */
  readonly script?: URL;
}

/** The runtimes that read TypeScript run the source; compiled, the script lies beside as JavaScript. */
const ownScript = new URL(import.meta.url.endsWith(".ts") ? "./worker.ts" : "./worker.js", import.meta.url);

export function threadPool({ threads, script = ownScript }: ThreadPoolOptions): Pool {
  const idle: Thread[] = [];
  const all = new Set<Thread>();
  const waiting: { readonly resolve: () => void; readonly reject: (fault: Fault) => void }[] = [];
  let busy = 0;
  let isClosed = false;

  const closed = (): Fault => new Fault("DRAINING", "Cannot use the thread pool as it must be open: it was closed");

  function start(): Thread {
    const worker = new Worker(script);
    const died = new Promise<never>((_, reject) => {
      let cause: unknown;
      worker.on("error", (error) => {
        cause = error;
      });
      worker.on("exit", (code) => {
        all.delete(thread);
        const place = idle.indexOf(thread);
        if (place >= 0) idle.splice(place, 1);
        reject(
          isClosed ? closed() : new Fault("INTERNAL", `A thread of the pool ended with exit code ${code}`, { cause }),
        );
      });
    });
    died.catch(() => {}); // a thread may die with nobody waiting
    const thread: Thread = { worker, remote: wrap<Trades>(nodeEndpoint(worker)), died };
    all.add(thread);
    return thread;
  }

  /** Runs one call on a thread of its own; calls get their turn in the order in which they came. */
  async function run<Value>(call: (remote: Remote<Trades>) => Promise<Answer<Value>>): Promise<Value> {
    if (isClosed) throw closed();
    if (busy >= threads) await new Promise<void>((resolve, reject) => waiting.push({ resolve, reject }));
    else busy++;
    try {
      if (isClosed) throw closed(); // while this call stood in line
      return await runOn(idle.pop() ?? start(), call);
    } finally {
      const next = waiting.shift();
      if (next === undefined) busy--;
      else next.resolve();
    }
  }

  async function runOn<Value>(
    thread: Thread,
    call: (remote: Remote<Trades>) => Promise<Answer<Value>>,
  ): Promise<Value> {
    thread.worker.ref(); // a thread holds the process open only while it works
    try {
      const answer = await Promise.race([call(thread.remote), thread.died]);
      if ("value" in answer) return answer.value;
      throw Object.assign(new Error(answer.error.message), { code: answer.error.code });
    } finally {
      if (all.has(thread)) {
        thread.worker.unref();
        idle.push(thread);
      }
    }
  }

  return {
    hashFile: (path) => run((remote) => remote.hashFile(path)),
    storeFile: (from, to) => run((remote) => remote.storeFile(from, to)),
    async close() {
      isClosed = true;
      for (const { reject } of waiting.splice(0)) reject(closed());
      await Promise.all([...all].map((thread) => thread.worker.terminate()));
    },
  };
}
