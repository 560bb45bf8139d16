/** A gateway's stub behind a door: answers each language with its pid. Arguments: how long to wait before it is ready, in ms. */
import { Buffer } from "node:buffer";
import { createServer } from "node:http";
import process from "node:process";
import grpc from "@grpc/grpc-js";
import { WebSocketServer } from "ws";
import { outliveHttp2Farewells } from "../../src/roles/http2_on_deno.ts";
import { onParentLost } from "../../src/roles/process_supervisor.ts";
import { feedHttpServer, receiveSockets } from "../../src/roles/sniff.ts";
import { realClock, sleep } from "../../src/runtime/clock.ts";
import { echoService } from "./echo_service.ts";

onParentLost(() => process.exit(0));

const http = createServer((request, response) => {
  let bytes = 0;
  request.on("data", (chunk: Uint8Array) => bytes += chunk.length);
  request.on("end", () => response.end(`${process.pid} ${request.method} ${request.url} ${bytes}`));
});
const webSockets = new WebSocketServer({ noServer: true });
http.on("upgrade", (request, socket, head) => {
  webSockets.handleUpgrade(request, socket, head, (webSocket) => {
    webSocket.on("message", (message) => webSocket.send(`${process.pid} ${message}`));
  });
});

outliveHttp2Farewells();
const rpc = new grpc.Server();
rpc.addService(echoService, {
  Echo: (call: { request: Buffer }, answer: (error: null, reply: Buffer) => void) =>
    answer(null, Buffer.from(`${process.pid} ${call.request}`)),
});
const injector = rpc.createConnectionInjector(grpc.ServerCredentials.createInsecure());

const delayMs = Number(process.argv[2] ?? 0);
if (delayMs > 0) await sleep(realClock, delayMs);
const hold = receiveSockets({
  clock: realClock,
  onHttp: feedHttpServer(http),
  onHttp2: (socket) => injector.injectConnection(socket),
  onCbor(socket, firstBytes) {
    socket.write(`${process.pid} ${Buffer.from(firstBytes)}`);
    socket.on("data", (bytes) => socket.write(bytes));
  },
});
process.on("SIGUSR2", hold);
