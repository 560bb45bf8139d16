import process from "node:process";
import { parseDigest } from "../../src/domain/digest.ts";
import { workerId } from "../../src/domain/ids.ts";
import { type FromWorker, parseToWorker } from "../../src/protocol/worker_messages.ts";
import { realClock } from "../../src/runtime/clock.ts";
import { realRandom } from "../../src/runtime/random.ts";
import { helloOf, memberBackoff } from "../../src/roles/machine.ts";
import { keepDialing } from "../../src/transport/redial.ts";
import { tcpTransport } from "../../src/transport/tcp.ts";
import type { Connection } from "../../src/transport/transport.ts";

/**
 * A worker that does nothing, at once: `noop_worker ADDRESS TOKEN SLOTS [RESULT]`, the digest of an ActionResult that it
 * says came of it.
 */
const [address = "", token = "", slots = "200", result] = process.argv.slice(2);
const made = result === undefined ? {} : { result: parseDigest(result) };
const transport = tcpTransport({ clock: realClock });
const hello = helloOf("worker", "noop", token);

function serve(connection: Connection): void {
  let number = 0;
  const send = (message: FromWorker): void => connection.send(message);
  connection.onMessage((input) => {
    const { hold } = parseToWorker(input);
    if (hold.length === 0) return;
    const atMs = realClock.now();
    const attempts = hold.map(({ taskId, attempt }) => ({
      stage: "ended" as const,
      taskId,
      attempt,
      outcome: { kind: "exited" as const, exitCode: 0, startedAtMs: atMs, endedAtMs: atMs, ...made },
    }));
    send({ type: "worker.report", number: ++number, attempts });
  });
  send({
    type: "worker.sync",
    number: ++number,
    worker: {
      workerId: workerId("noop"),
      incarnation: hello.incarnation,
      slots: Number(slots),
      platform: {},
      isolation: "simulated",
    },
    attempts: [],
  });
}

await keepDialing({
  dial: (signal) => transport.dial(address, { hello, signal }),
  onConnection: serve,
  clock: realClock,
  random: realRandom,
  backoff: memberBackoff,
  signal: new AbortController().signal,
});
