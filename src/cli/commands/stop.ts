import { resolve } from "node:path";
import { Fault } from "../../domain/fault.ts";
import { readNewest, readReady } from "../../roles/ready_file.ts";
import { sleep } from "../../runtime/clock.ts";
import { command, jsonFlag } from "../command.ts";
import { exitCodes } from "../exit_codes.ts";
import { text } from "../flags.ts";
import { jsonLine, span } from "../render.ts";

/** Tasks have 10 s to end, what was told is synced: a cluster that takes longer than this does not stop by itself. */
const patienceMs = 60_000;
const lookEveryMs = 50;

export const stop = command({
  name: "stop",
  usage: ["stop [--ready-file FILE]"],
  about:
    "Stops the cluster that you started on this machine, as Ctrl-C in its terminal does, and waits until it is gone. Commands that run have a moment to end; those that do not are put back, and run again when the cluster starts again. Nothing that was accepted is lost.",
  examples: [
    ["stop", "the cluster that you started last"],
    ["stop --ready-file /tmp/mine.json", "the one that was started with that ready file"],
  ],
  flags: { "ready-file": text("FILE", "The ready file of the cluster to stop (SCOOT_READY_FILE)"), ...jsonFlag },
  words: { min: 0, max: 0 },
  async run({ flags, world, isJson }) {
    const named = flags["ready-file"] ?? (world.env["SCOOT_READY_FILE"] || undefined);
    const { isAlive } = world.processes;
    const ready = named === undefined
      ? readNewest(world.runtimeFolder, isAlive)?.ready
      : readReady(resolve(world.userDir, named));
    if (ready === undefined || !isAlive(ready.pid)) {
      await world.stdout.write(isJson ? jsonLine({ stopped: false }) : "No cluster runs: there is nothing to stop.\n");
      return exitCodes.done;
    }
    const { pid, http } = ready;
    const commandLine = world.processes.commandLine(pid);
    if (commandLine !== undefined && !/\bcluster\b/.test(commandLine)) {
      // Its cluster was killed, and the system gave the number to another.
      throw new Fault(
        "PATH_INVALID",
        `Cannot stop process ${pid} as it must be a cluster: it is "${commandLine.slice(0, 100)}"`,
      );
    }
    const startedAtMs = world.clock.now();
    world.processes.terminate(pid);
    if (world.stderr.isTerminal && !isJson) {
      await world.stderr.write(`Stopping the cluster at ${http} (process ${pid})…\n`);
    }
    while (isAlive(pid)) {
      if (world.clock.now() - startedAtMs > patienceMs) {
        throw new Fault(
          "PEER_SILENT",
          `Cannot stop the cluster at ${http} as process ${pid} must end after SIGTERM: it still runs after ${
            span(patienceMs)
          }`,
        );
      }
      await sleep(world.clock, lookEveryMs);
    }
    const tookMs = world.clock.now() - startedAtMs;
    await world.stdout.write(
      isJson ? jsonLine({ stopped: true, pid, http, tookMs }) : `Stopped the cluster at ${http} in ${span(tookMs)}.\n`,
    );
    return exitCodes.done;
  },
});
