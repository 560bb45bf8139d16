import type { ChildProcess } from "node:child_process";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { Fault } from "../domain/fault.ts";
import type { Clock } from "../runtime/clock.ts";
import { type DoorMessage, isDoorMessage } from "./sniff.ts";

/**
 * Owns the port, so that it outlives the gateway. Accepted connections are handed to the gateway's process as they are
 * (the kernel passes the descriptor; no byte is read or copied here); while there is none they wait.
 *
 *     client ──▶ door ──descriptor──▶ gateway
 *                  └── held: at most 1,000, each at most 45 s; what they send stays in the kernel's buffers
 */
export interface Door {
  readonly host: string;
  /** The port that is listened on, also when 0 was asked for. */
  readonly port: number;
  /** Connections that wait for a gateway. */
  readonly heldCount: number;
  /**
   * Hands connections to this process from when it asks for them (`receiveSockets`) until it is gone, or wants no more.
   * Its open connections die with it; those not yet handed over wait for the next one.
   */
  serve(child: ChildProcess): void;
  /** Frees the port, and closes what waits. */
  close(): Promise<void>;
}

export interface DoorOptions {
  readonly clock: Clock;
  readonly host: string;
  /** 0 is one that is free. */
  readonly port: number;
}

const heldMax = 1_000;
const heldMsMax = 45_000;

/** @throws {Fault} `PORT_BUSY` when another program listens there, `BIND_REFUSED` when the system does not allow it. */
export async function openDoor({ clock, host, port }: DoorOptions): Promise<Door> {
  /** In the order of their arrival, and so of their deadlines. */
  const held: { readonly socket: Socket; readonly untilMs: number }[] = [];
  let taker: ChildProcess | undefined;
  /** On its way: the taker has not yet said that it has it. */
  let leaving: { readonly socket: Socket; readonly to: ChildProcess } | undefined;
  let cancelExpiry: (() => void) | undefined;

  function expire(): void {
    cancelExpiry = undefined;
    const nowMs = clock.now();
    while (held[0] !== undefined && held[0].untilMs <= nowMs) held.shift()?.socket.destroy();
    armExpiry();
  }
  function armExpiry(): void {
    if (cancelExpiry === undefined && held[0] !== undefined) cancelExpiry = clock.at(held[0].untilMs, expire);
  }

  /**
   * One at a time. A channel passes them on like that in any case, and what it queues meanwhile would be lost with the
   * taker: worse, Deno would leak it.
   */
  function handOver(): void {
    if (taker === undefined || leaving !== undefined) return;
    const socket = held.shift()?.socket;
    if (socket === undefined) return;
    leaving = { socket, to: taker };
    const message: DoorMessage = { type: "socket" };
    // Kept open, and closed here once it is written: the message holds the descriptor from then on, until it is read or
    // its reader is gone. A runtime that is to close it waits for a receipt instead: Node for ever when the reader dies.
    taker.send(message, socket, { keepOpen: true }, () => socket.destroy());
  }

  const server = createServer({ pauseOnConnect: true }, (socket) => {
    socket.on("error", () => {});
    if (held.length >= heldMax) return socket.destroy();
    held.push({ socket, untilMs: clock.now() + heldMsMax });
    handOver();
    armExpiry();
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause: NodeJS.ErrnoException) => reject(listenFault(host, port, cause)));
    server.listen({ host, port, backlog: 1_024 }, resolve);
  });
  // A connection that could not be accepted is the loss of that connection only.
  server.removeAllListeners("error").on("error", () => {});

  return {
    host,
    port: (server.address() as AddressInfo).port,
    get heldCount() {
      return held.length;
    },
    serve(child) {
      const leave = (): void => {
        if (taker === child) taker = undefined;
        if (leaving?.to !== child) return;
        // Perhaps it was handed over and read from, perhaps not: nobody may read on.
        leaving.socket.destroy();
        leaving = undefined;
        handOver();
      };
      child.on("message", (message: unknown) => {
        if (isDoorMessage(message, "sockets.take")) {
          taker = child;
          handOver();
        } else if (isDoorMessage(message, "sockets.hold")) {
          if (taker === child) taker = undefined;
        } else if (isDoorMessage(message, "socket.taken") && leaving?.to === child) {
          leaving = undefined;
          handOver();
        }
      });
      child.on("disconnect", leave).on("exit", leave);
    },
    close() {
      cancelExpiry?.();
      for (const { socket } of held.splice(0)) socket.destroy();
      // The port is free now; the callback would wait for connections that were handed over.
      server.close();
      return Promise.resolve();
    },
  };
}

/** Why a port could not be listened on. */
export function listenFault(host: string, port: number, cause: NodeJS.ErrnoException): Fault {
  if (cause.code === "EADDRINUSE") {
    const why = `the port must be free: another program listens on ${port}`;
    return new Fault("PORT_BUSY", `Cannot listen at ${host}:${port} as ${why}`, { cause });
  }
  const why = `the system must allow it: ${cause.message}`;
  return new Fault("BIND_REFUSED", `Cannot listen at ${host}:${port} as ${why}`, { cause });
}
