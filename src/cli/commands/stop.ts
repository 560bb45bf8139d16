import { rmSync } from "node:fs";
import { resolve } from "node:path";
import { Fault } from "../../domain/fault.ts";
import { readNewest, readReady } from "../../roles/ready_file.ts";
import { sleep } from "../../runtime/clock.ts";
import { type Call, command, jsonFlag } from "../command.ts";
import { exitCodes } from "../exit_codes.ts";
import { text, toggle, usage } from "../flags.ts";
import { jsonLine, plain, span } from "../render.ts";

/** Tasks have 10 s to end, what was told is synced: a cluster that takes longer than this does not stop by itself. */
const patienceMs = 60_000;
const lookEveryMs = 50;

const flags = {
  "ready-file": text("FILE", "The ready file of the cluster to stop (SCOOT_READY_FILE)"),
  purge: toggle("Then remove all that it kept: jobs, results, snapshots, names"),
  data: text(
    "DIR",
    "With --purge, when no cluster runs: its data folder (SCOOT_DATA); ~/.local/state/scoot-actors by default",
  ),
  ...jsonFlag,
} as const;

type StopCall = Call<typeof flags>;

export const stop = command({
  name: "stop",
  usage: ["stop [--ready-file FILE]", "stop --purge [--data DIR]"],
  about:
    "Stops the cluster that you started on this machine, as Ctrl-C in its terminal does, and waits until it is gone. Commands that run have a moment to end; those that do not are put back, and run again when the cluster starts again. Nothing that was accepted is lost. With --purge all of it is: what the cluster kept, and what this program remembers of folders that were captured, is removed.",
  examples: [
    ["stop", "the cluster that you started last"],
    ["stop --purge", "and leaves nothing of it on this machine"],
    ["stop --ready-file /tmp/mine.json", "the one that was started with that ready file"],
  ],
  flags,
  words: { min: 0, max: 0 },
  async run(call) {
    const { flags, world, isJson } = call;
    if (flags.data !== undefined && !flags.purge) throw usage("Cannot use --data as it must go with --purge");
    const named = flags["ready-file"] ?? (world.env["SCOOT_READY_FILE"] || undefined);
    const { isAlive } = world.processes;
    const ready = named === undefined
      ? readNewest(world.runtimeFolder, isAlive)?.ready
      : readReady(resolve(world.userDir, named));
    if (ready === undefined || !isAlive(ready.pid)) {
      await world.stdout.write(isJson ? jsonLine({ stopped: false }) : "No cluster runs: there is nothing to stop.\n");
      if (flags.purge) await purge(call, ready?.data);
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
    if (flags.purge) await purge(call, ready.data);
    return exitCodes.done;
  },
});

/** @param dataDir of the cluster that ran; else what flags and environment say. */
async function purge({ flags, world, isJson }: StopCall, dataDir: string | undefined): Promise<void> {
  const { readClusterConfig } = await import("../../roles/config.ts");
  const { purgeData } = await import("../../roles/purge.ts");
  const { cacheFolder } = await import("../trees.ts");
  const given = { flags: { data: flags.data }, env: world.env, userDir: world.userDir };
  const dir = dataDir ?? readClusterConfig(given).dataDir;
  const left = await purgeData(dir);
  const cache = cacheFolder(world.env);
  rmSync(cache, { recursive: true, force: true });
  if (isJson) return await world.stdout.write(jsonLine({ purged: dir, left, cache }));
  const others = left.length === 0 ? "" : `; what else is in it stays: ${left.map(plain).join(", ")}`;
  await world.stdout.write(`Removed what was kept in ${dir} and ${cache}${others}.\n`);
}
