import { asFault, type Fault } from "../domain/fault.ts";
import { type Clock, sleep } from "../runtime/clock.ts";
import type { Random } from "../runtime/random.ts";
import type { Connection } from "./transport.ts";

export interface KeepDialingOptions {
  /** One try; given the signal, so that it ends with the rest. */
  readonly dial: (signal: AbortSignal) => Promise<Connection>;
  /** Each time there is a connection; `onMessage` is to be set in it. */
  readonly onConnection: (connection: Connection) => void;
  readonly clock: Clock;
  readonly random: Random;
  /** The n-th try in a row waits a random time below min(firstMs·2ⁿ, maxMs); 50 and 2,000 ms by default. */
  readonly backoff?: { readonly firstMs: number; readonly maxMs: number };
  /** Each failed dial and each connection that did not end by an ordinary close. */
  readonly onTrouble?: (fault: Fault) => void;
  /** Ends it all, the open connection too. */
  readonly signal: AbortSignal;
}

const backoffDefault = { firstMs: 50, maxMs: 2000 };
/** What will not be cured by trying (a wrong token, another version) may be by whoever reads the log. */
const hopelessMs = 5000;
/** A connection that lived so long has proved that the peer is well. */
const healthyMs = 5000;

/**
 * Holds one connection to a peer for as long as the signal is not aborted: dials, hands the connection over, waits for
 * its end, dials again, with full-jitter back-off (AWS Architecture Blog, "Exponential Backoff And Jitter", 2015).
 *
 * @returns when the signal is aborted. It never rejects.
 */
export async function keepDialing(options: KeepDialingOptions): Promise<void> {
  const { clock, random, signal, backoff = backoffDefault } = options;
  let failures = 0;
  while (!signal.aborted) {
    let trouble: Fault | undefined;
    try {
      const connection = await options.dial(signal);
      const openedAtMs = clock.now();
      const close = (): void => connection.close();
      if (signal.aborted) close();
      else {
        signal.addEventListener("abort", close, { once: true });
        try {
          options.onConnection(connection);
        } catch (thrown) {
          connection.close(asFault(thrown, "Cannot begin with a connection"));
        }
      }
      trouble = await connection.closed;
      signal.removeEventListener("abort", close);
      if (clock.now() - openedAtMs >= healthyMs) failures = 0;
    } catch (thrown) {
      trouble = asFault(thrown, "Cannot dial");
    }
    if (signal.aborted) return;
    if (trouble !== undefined) options.onTrouble?.(trouble);
    const ceilingMs = Math.min(backoff.maxMs, backoff.firstMs * 2 ** Math.min(failures++, 30));
    const waitMs = trouble?.meaning.retry === "never" ? hopelessMs : random.integer(Math.ceil(ceilingMs) + 1);
    await sleep(clock, waitMs, signal).catch(() => {});
  }
}
