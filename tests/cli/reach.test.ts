import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { reach } from "../../src/cli/reach.ts";
import type { Clock } from "../../src/runtime/clock.ts";

/** Time passes by itself as soon as somebody waits. */
function hurriedClock(): Clock & { readonly waits: () => number } {
  let nowMs = 0;
  let waits = 0;
  return {
    now: () => nowMs,
    waits: () => waits,
    at(atMs, wake) {
      waits++;
      const timer = setImmediate(() => {
        nowMs = Math.max(nowMs, atMs);
        wake();
      });
      return () => clearImmediate(timer);
    },
  };
}

async function listen(port = 0) {
  const server = createServer((socket) => socket.resume());
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  const close = async (): Promise<void> => {
    if (!server.listening) return;
    server.close();
    await once(server, "close");
  };
  onTestFinished(close);
  return { port: (server.address() as AddressInfo).port, close };
}

test("reach() resolves at once when somebody listens", async () => {
  const { port } = await listen();
  const clock = hurriedClock();
  await reach(`http://127.0.0.1:${port}`, clock);
  expect(clock.waits()).toBe(0);
});

test("reach() tries for 3 s, then says that nobody listens", async () => {
  const { port, close } = await listen();
  await close();
  const clock = hurriedClock();
  await expect(reach(`http://127.0.0.1:${port}`, clock)).rejects.toMatchObject({
    code: "PEER_UNREACHABLE",
    message:
      `Cannot reach a cluster at http://127.0.0.1:${port}: nobody listens there; "scoot-actors cluster" starts one on this machine`,
  });
  expect(clock.waits()).toBe(30);
});

test("reach() finds a cluster that comes back meanwhile", async () => {
  const { port, close } = await listen();
  await close();
  let isBack = false;
  const clock: Clock = {
    now: () => 0,
    at(_, wake) {
      void (isBack ? Promise.resolve() : listen(port)).then(() => {
        isBack = true;
        wake();
      });
      return () => {};
    },
  };
  await reach(`http://127.0.0.1:${port}`, clock);
  expect(isBack).toBe(true);
});
