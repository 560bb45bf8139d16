import http2, { type ServerHttp2Session } from "node:http2";
import process from "node:process";

/**
 * Keeps this process alive when an HTTP/2 client says farewell: to be called before a server that speaks HTTP/2 (gRPC)
 * gets its first connection. Does nothing on Node.
 *
 * Deno 2.9 frees a session in the middle of the callback that reports the client's GOAWAY frame, while the library
 * below is still at work on it: the process is aborted, or dies by SIGSEGV, as soon as a client with a few hundred calls
 * behind it leaves (https://github.com/denoland/deno/issues/36788). Sessions are closed one turn of the event loop later here.
 */
export function outliveHttp2Farewells(): void {
  if (!("deno" in process.versions) || http2.createServer === createServer) return;
  http2.createServer = createServer as typeof http2.createServer;
}

const original = http2.createServer;

/** grpc-js makes its servers by itself, and by this function: there is no other place to reach their sessions. */
function createServer(...options: Parameters<typeof original>): ReturnType<typeof original> {
  const server = original(...options);
  server.on("session", (session: ServerHttp2Session) => {
    const { close, destroy } = session;
    session.close = (callback) => void setImmediate(() => close.call(session, callback));
    session.destroy = (error, code) => void setImmediate(() => destroy.call(session, error, code));
  });
  return server;
}
