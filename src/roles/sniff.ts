import { Buffer } from "node:buffer";
import type { Server as HttpServer } from "node:http";
import type { Socket } from "node:net";
import process from "node:process";
import type { Clock } from "../runtime/clock.ts";
import { magic } from "../transport/frame.ts";

/** Who takes a connection, by the language that its peer speaks. The socket has not been read from, or so it seems. */
export interface Takers {
  /** HTTP/1: for {@link feedHttpServer}. */
  readonly onHttp: (socket: Socket) => void;
  /** Our own protocol: what was read, and the socket with the rest. */
  readonly onCbor: (socket: Socket, firstBytes: Uint8Array) => void;
  /** HTTP/2 without TLS: for a gRPC server's `injectConnection(socket)`. */
  readonly onHttp2: (socket: Socket) => void;
}

/** Time in which a peer must have shown its language. */
const sniffMs = 10_000;

/** What an HTTP/2 client sends first (RFC 9113, section 3.4); of its 24 bytes the method and version decide. */
const http2Preface = Buffer.from("PRI * HTTP/2");
const languages = [{ name: "cbor", first: Buffer.from(magic) }, { name: "http2", first: http2Preface }] as const;

/**
 * Finds out what a new connection speaks, from its first bytes, and hands it on: "SCOOT/1\n" is ours, "PRI * HTTP/2" is
 * HTTP/2, anything else is left to HTTP/1 to answer or refuse. A peer that ends, or that says nothing decisive within ten
 * seconds, is closed.
 */
export function sniffSocket(socket: Socket, takers: Takers, clock: Clock): void {
  const read: Buffer[] = [];
  const cancelTimer = clock.at(clock.now() + sniffMs, () => socket.destroy());
  // Stays: between this and the taker's own there must be no moment without one, for an error without one is thrown.
  socket.on("error", () => {});
  socket.setNoDelay(true);

  const onReadable = (): void => {
    for (let bytes: Buffer | null; (bytes = socket.read() as Buffer | null) !== null;) read.push(bytes);
    if (read.length === 0) return;
    const first = Buffer.concat(read);
    const language = languageOf(first);
    if (language === "undecided") return;
    stop();
    if (language === "cbor") return takers.onCbor(socket, first);
    socket.unshift(first);
    if (language === "http2") takers.onHttp2(socket);
    else takers.onHttp(socket);
  };
  const onEnd = (): void => {
    stop();
    socket.destroy();
  };
  function stop(): void {
    cancelTimer();
    socket.off("readable", onReadable).off("end", onEnd).off("close", stop);
  }
  socket.on("readable", onReadable).on("end", onEnd).on("close", stop);
}

/** Undecided only while all that was read is the beginning of a known first word: of at most twelve bytes. */
function languageOf(first: Buffer): "cbor" | "http2" | "http" | "undecided" {
  for (const { name, first: expected } of languages) {
    const length = Math.min(first.length, expected.length);
    if (first.compare(expected, 0, length, 0, length) === 0) return length < expected.length ? "undecided" : name;
  }
  return "http";
}

/**
 * What gives sockets to an HTTP server that does not listen itself: `onHttp`. They are then treated as those it would
 * have accepted.
 */
export function feedHttpServer(server: HttpServer): (socket: Socket) => void {
  // Deno closes each connection after its first answer, in the belief that a server which does not listen is closing.
  Object.defineProperty(server, "listening", { value: true });
  // Starts the watch over clients that do not finish their requests (headersTimeout, requestTimeout).
  server.emit("listening");
  return (socket) => {
    // A client may end its side once it has asked, and still wants the answer.
    socket.allowHalfOpen = true;
    server.emit("connection", socket);
  };
}

/** The messages between a door and the process that takes its sockets. */
export type DoorMessage =
  /** To the door: hand over from now on. */
  | { readonly type: "sockets.take" }
  /** To the door: keep them; this process is about to stop. */
  | { readonly type: "sockets.hold" }
  /** From the door, with a socket; the next one comes when this one is taken. */
  | { readonly type: "socket" }
  /** To the door: the socket has arrived. */
  | { readonly type: "socket.taken" };

export const isDoorMessage = (message: unknown, type: DoorMessage["type"]): boolean =>
  typeof message === "object" && message !== null && "type" in message && message.type === type;

/**
 * In the process behind a door: tells the door that it is ready, and sniffs each socket that comes.
 *
 * @returns what asks the door to hold new connections, for a stop that no client notices.
 */
export function receiveSockets(options: Takers & { readonly clock: Clock }): () => void {
  const say = (message: DoorMessage): void => {
    if (process.connected) process.send?.(message);
  };
  process.on("message", (message: unknown, socket: unknown) => {
    if (!isDoorMessage(message, "socket")) return;
    say({ type: "socket.taken" });
    // Without a socket: its peer had gone before it could be passed on.
    if (socket) sniffSocket(socket as Socket, options, options.clock);
  });
  say({ type: "sockets.take" });
  return () => say({ type: "sockets.hold" });
}
