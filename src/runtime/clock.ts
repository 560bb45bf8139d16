/** Time, by name. Nothing above the hands reads a clock of its own. */
export interface Clock {
  /** Epoch milliseconds. */
  now(): number;
  /** Calls `wake` once, at or soon after `atMs`; the returned function takes it back. */
  at(atMs: number, wake: () => void): () => void;
}

/** setTimeout fires at once for more than 2^31-1 ms; longer waits are cut into pieces of this length. */
const timerMsMax = 2 ** 31 - 1;

export const realClock: Clock = {
  now: () => Date.now(),
  at(atMs, wake) {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const arm = (): void => {
      const leftMs = Math.max(0, atMs - Date.now());
      timer = leftMs > timerMsMax ? setTimeout(arm, timerMsMax) : setTimeout(wake, leftMs);
    };
    arm();
    return () => clearTimeout(timer);
  },
};

/** Resolves at `clock.now() + ms`; rejects with the signal's reason when it is aborted first. */
export function sleep(clock: Clock, ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const onAbort = (): void => {
      cancel();
      reject(signal?.reason);
    };
    const cancel = clock.at(clock.now() + ms, () => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    });
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}
