import { connect, createServer, type Socket } from "node:net";
import type { AddressInfo } from "node:net";
import { Fault } from "../domain/fault.ts";
import type { Clock } from "../runtime/clock.ts";
import { acceptOver, type ByteStream, dialOver, limitsDefault } from "./connection.ts";
import { sameSecret } from "./secret.ts";
import type { AcceptOptions, Connection, DialOptions, Listener } from "./transport.ts";

export interface TcpTransport {
  /**
   * Listens at `tcp://host:port`; port 0 is one that is free.
   *
   * @throws {Fault} `PORT_BUSY`, or `BIND_REFUSED` when the host is not ours or the port is not allowed.
   */
  listen(options: AcceptOptions & { readonly host: string; readonly port: number }): Promise<Listener>;
  /**
   * @param address `tcp://host:port`; an IPv6 host in brackets.
   * @throws {Fault} `REQUEST_INVALID` for another address, and what `dialOver` throws.
   */
  dial(address: string, options: DialOptions): Promise<Connection>;
  /**
   * Accepts a socket that somebody else has listened for and perhaps has read from.
   *
   * @param firstBytes what was read from it already; it begins with `magic` or is refused.
   */
  acceptSocket(socket: Socket, firstBytes: Uint8Array | undefined, options: AcceptOptions): void;
}

export function tcpTransport({ clock }: { readonly clock: Clock }): TcpTransport {
  const ports = { clock, later: queueMicrotask, sameSecret };

  const acceptSocket: TcpTransport["acceptSocket"] = (socket, firstBytes, options) =>
    acceptOver(socketStream(socket, firstBytes), options, ports);

  return {
    acceptSocket,
    async listen(options) {
      const server = createServer({ noDelay: true }, (socket) => acceptSocket(socket, undefined, options));
      await new Promise<void>((resolve, reject) => {
        server.once("error", (cause: NodeJS.ErrnoException) => {
          const code = cause.code === "EADDRINUSE" ? "PORT_BUSY" : "BIND_REFUSED";
          reject(new Fault(code, `Cannot listen at ${options.host}:${options.port}: ${cause.message}`, { cause }));
        });
        server.listen({ host: options.host, port: options.port }, resolve);
      });
      // A connection that could not be accepted is the loss of that connection only.
      server.removeAllListeners("error").on("error", () => {});
      const { port } = server.address() as AddressInfo;
      return {
        address: `tcp://${options.host.includes(":") ? `[${options.host}]` : options.host}:${port}`,
        close() {
          // The port is free now; the callback would wait for the open connections.
          server.close();
          return Promise.resolve();
        },
      };
    },
    // deno-lint-ignore require-await -- so that a fault rejects
    async dial(address, options) {
      const deadlineAtMs = clock.now() + (options.limits?.handshakeMs ?? limitsDefault.handshakeMs);
      const { host, port } = parseTcpAddress(address);
      const stream = socketStream(connect({ host, port, noDelay: true }), undefined, `${host}:${port}`);
      return dialOver(stream, address, { ...options, deadlineAtMs }, ports);
    },
  };
}

function parseTcpAddress(address: string): { readonly host: string; readonly port: number } {
  const [, bracketed, plain, port] = /^tcp:\/\/(?:\[([0-9a-fA-F:.]+)\]|([^\s:/@]+)):([0-9]{1,5})$/.exec(address) ?? [];
  const host = bracketed ?? plain;
  if (host === undefined || Number(port) > 65535) {
    throw new Fault(
      "REQUEST_INVALID",
      `Cannot dial as the address must be tcp://host:port: current value is ${address}`,
    );
  }
  return { host, port: Number(port) };
}

function socketStream(
  socket: Socket,
  firstBytes?: Uint8Array,
  remote = `${socket.remoteAddress}:${socket.remotePort}`,
): ByteStream {
  let taken: (() => void) | undefined;
  return {
    remote,
    get bufferedBytes() {
      return socket.destroyed ? 0 : socket.writableLength;
    },
    attach(events) {
      let failure: unknown;
      taken = events.onTaken;
      socket.setNoDelay(true);
      socket.on("data", (chunk: Uint8Array) => {
        // Not as a Buffer, whose slices would be Buffers too: what is decoded should be the same on every transport.
        events.onBytes(new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength));
      });
      socket.on("error", (error) => failure = error);
      // A server may have made the socket with allowHalfOpen (Node's HTTP servers do).
      socket.on("end", () => socket.end());
      socket.on("close", () => events.onEnd(failure));
      if (firstBytes !== undefined && firstBytes.length > 0) socket.unshift(firstBytes);
      socket.resume();
    },
    write(bytes) {
      if (socket.writable) socket.write(bytes, taken);
    },
    pause: () => void socket.pause(),
    resume: () => void socket.resume(),
    end: () => void socket.end(),
    destroy: () => void socket.destroy(),
  };
}
