import { expect, test } from "vitest";
import { realClock } from "../../src/runtime/clock.ts";
import { memoryTransport } from "../../src/transport/memory.ts";
import { connectionContract, hello } from "./connection_contract.ts";

let names = 0;
connectionContract("memoryTransport()", async (options) => {
  const transport = memoryTransport({ clock: realClock });
  const listener = await transport.listen({ ...options, name: `m${++names}` });
  return {
    address: listener.address,
    dial: transport.dial,
    // deno-lint-ignore require-await -- as the others are
    async dialRaw(address) {
      const stream = transport.connect(address);
      let listen = (_bytes: Uint8Array): void => {};
      const ended = new Promise<void>((resolve) =>
        stream.attach({ onBytes: (bytes) => listen(bytes), onTaken: () => {}, onEnd: () => resolve() })
      );
      return {
        write: (bytes) => stream.write(bytes),
        onBytes: (listener) => void (listen = listener),
        ended,
        end: () => stream.end(),
      };
    },
    close: () => listener.close(),
  };
});

const accept = { hello: hello("scheduler"), roles: ["worker"] as const, onConnection: () => {} };

test("memoryTransport() lets one listener have a name, and frees it when that is closed", async () => {
  const transport = memoryTransport({ clock: realClock });
  const first = await transport.listen({ ...accept, name: "n" });
  await expect(transport.listen({ ...accept, name: "n" })).rejects.toMatchObject({ code: "PORT_BUSY" });
  await first.close();
  await (await transport.listen({ ...accept, name: "n" })).close();
});

test("memoryTransport() delivers when the given scheduler says so, and not before", async () => {
  const due: (() => void)[] = [];
  const transport = memoryTransport({ clock: realClock, later: (work) => void due.push(work) });
  const heard: unknown[] = [];
  await transport.listen({
    ...accept,
    name: "n",
    onConnection: (connection) => connection.onMessage((message) => void heard.push(message)),
  });
  const run = async <Result>(until: Promise<Result>): Promise<Result> => {
    let done = false;
    void until.finally(() => done = true);
    for (let turn = 0; !done && turn < 100; turn++) {
      due.shift()?.();
      await Promise.resolve();
    }
    return until;
  };
  const dialled = await run(transport.dial("memory:n", { hello: hello("worker") }));
  dialled.send({ n: 1 });
  await new Promise((resolve) => setImmediate(resolve));
  expect(heard).toEqual([]);
  dialled.close();
  await run(dialled.closed);
  expect(heard).toEqual([{ n: 1 }]);
});
