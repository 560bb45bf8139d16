import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { type RawData, WebSocket, WebSocketServer } from "ws";
import { Fault } from "../domain/fault.ts";
import type { Clock } from "../runtime/clock.ts";
import { acceptOver, type ByteStream, dialOver, limitsDefault } from "./connection.ts";
import { sameSecret } from "./secret.ts";
import type { AcceptOptions, Connection, DialOptions } from "./transport.ts";

export interface WebSocketTransport {
  /**
   * @param address `ws://host:port/v1/connect`, or wss.
   * @throws {Fault} `REQUEST_INVALID` for another address, and what `dialOver` throws.
   */
  dial(address: string, options: DialOptions): Promise<Connection>;
  /** Answers an HTTP server's `upgrade` event. Path and origin are checked by whoever calls. */
  acceptUpgrade(request: IncomingMessage, socket: Duplex, head: Uint8Array, options: AcceptOptions): void;
  /**
   * Accepts a WebSocket that is open already. Nothing may have been read from it, and it should have been made with
   * {@link webSocketOptions}.
   */
  acceptWebSocket(webSocket: WebSocket, remote: string, options: AcceptOptions): void;
}

/**
 * A WebSocket carries the same bytes as TCP does, in binary messages which need not end where a frame ends. So a
 * WebSocket message can be small, however large a frame may be.
 */
const webSocketMessageBytesMax = 1024 * 1024;
/** What we put into one. */
const pieceBytesMax = 256 * 1024;

/** For whoever makes the WebSocket: bounded messages; no compression, for blobs are compressed already. */
export const webSocketOptions = { maxPayload: webSocketMessageBytesMax, perMessageDeflate: false } as const;

export function webSocketTransport({ clock }: { readonly clock: Clock }): WebSocketTransport {
  const ports = { clock, later: queueMicrotask, sameSecret };
  const upgrades = new WebSocketServer({ noServer: true, clientTracking: false, ...webSocketOptions });

  const acceptWebSocket: WebSocketTransport["acceptWebSocket"] = (webSocket, remote, options) =>
    acceptOver(webSocketStream(webSocket, remote), options, ports);

  return {
    acceptWebSocket,
    acceptUpgrade(request, socket, head, options) {
      const remote = `${request.socket.remoteAddress}:${request.socket.remotePort}`;
      upgrades.handleUpgrade(
        request,
        socket,
        Buffer.from(head),
        (webSocket) => acceptWebSocket(webSocket, remote, options),
      );
    },
    // deno-lint-ignore require-await -- so that a fault rejects
    async dial(address, options) {
      const deadlineAtMs = clock.now() + (options.limits?.handshakeMs ?? limitsDefault.handshakeMs);
      if (!/^wss?:\/\//.test(address) || !URL.canParse(address)) {
        throw new Fault(
          "REQUEST_INVALID",
          `Cannot dial as the address must be ws:// or wss://: current value is ${address}`,
        );
      }
      const stream = webSocketStream(new WebSocket(address, webSocketOptions), new URL(address).host);
      return dialOver(stream, address, { ...options, deadlineAtMs }, ports);
    },
  };
}

function webSocketStream(webSocket: WebSocket, remote: string): ByteStream {
  /** What was written before the WebSocket was open; then undefined. */
  let unopened: Uint8Array[] | undefined = webSocket.readyState === WebSocket.CONNECTING ? [] : undefined;
  let taken: (() => void) | undefined;

  const send = (bytes: Uint8Array): void => {
    for (let at = 0; at < bytes.length; at += pieceBytesMax) {
      webSocket.send(bytes.subarray(at, at + pieceBytesMax), { binary: true }, taken);
    }
  };
  return {
    remote,
    get bufferedBytes() {
      return webSocket.readyState === WebSocket.CLOSED ? 0 : webSocket.bufferedAmount;
    },
    attach(events) {
      let failure: unknown;
      taken = events.onTaken;
      webSocket.on("message", (data: RawData, isBinary: boolean) => {
        if (isBinary) {
          const chunk = data as Buffer;
          events.onBytes(new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength));
        } else {
          failure = new Error("a text message came where only binary ones may");
          webSocket.terminate();
        }
      });
      webSocket.on("error", (error) => failure = error);
      webSocket.on("close", () => events.onEnd(failure));
      webSocket.on("open", () => {
        for (const bytes of unopened ?? []) send(bytes);
        unopened = undefined;
      });
    },
    write(bytes) {
      if (unopened !== undefined) unopened.push(bytes);
      else if (webSocket.readyState === WebSocket.OPEN) send(bytes);
    },
    pause: () => webSocket.pause(),
    resume: () => webSocket.resume(),
    end: () => webSocket.close(1000),
    destroy: () => webSocket.terminate(),
  };
}
