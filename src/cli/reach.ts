import { connect } from "node:net";
import { Fault } from "../domain/fault.ts";
import { type Clock, sleep } from "../runtime/clock.ts";

/** A cluster that is just being started again listens within this time. */
const patienceMs = 3_000;
const againMs = 100;

/**
 * Resolves unless it is sure that there is no cluster. The client itself waits much longer, for one that it has met:
 * whoever mistyped a URL should hear of it soon.
 *
 * @throws {Fault} `PEER_UNREACHABLE` when nobody listens at the URL, or there is no such host.
 */
export async function reach(url: string, clock: Clock): Promise<void> {
  const { hostname, port, protocol } = new URL(url);
  const host = hostname.replace(/^\[|\]$/g, "");
  const untilMs = clock.now() + patienceMs;
  for (;;) {
    const code = await knock(host, Number(port) || (protocol === "https:" ? 443 : 80));
    if (code === "ENOTFOUND") {
      throw new Fault("PEER_UNREACHABLE", `Cannot reach a cluster at ${url}: there is no host ${host}`);
    }
    if (code !== "ECONNREFUSED") return;
    if (clock.now() >= untilMs) {
      throw new Fault(
        "PEER_UNREACHABLE",
        `Cannot reach a cluster at ${url}: nobody listens there; "scoot-actors cluster" starts one on this machine`,
      );
    }
    await sleep(clock, againMs);
  }
}

/** @returns the code of the error, or undefined when somebody opened. */
const knock = (host: string, port: number): Promise<string | undefined> =>
  new Promise((resolve) => {
    const socket = connect({ host, port });
    const end = (code?: string): void => {
      socket.destroy();
      resolve(code);
    };
    socket.once("connect", () => end());
    socket.once("error", (error: { code?: string }) => end(error.code ?? ""));
    socket.setTimeout(patienceMs, () => end("ETIMEDOUT"));
  });
