import type { WorkerView } from "../../protocol/client_messages.ts";
import { clusterFlags, command } from "../command.ts";
import { exitCodes } from "../exit_codes.ts";
import { jsonLine, lookOf, paintState, plain, size, span, table } from "../render.ts";

const stateOf = ({ state, offline, paused, flaky }: WorkerView): string =>
  offline !== undefined ? "offline" : paused !== undefined ? "paused" : flaky === undefined ? state : "flaky";

export const workers = command({
  name: "workers",
  usage: ["workers [FLAGS]"],
  about:
    "Shows the workers of the cluster: whether each is there, how many commands it runs and could run, which part of its machine it gives them, how it keeps them apart from it.",
  examples: [
    ["workers", "a line for each worker"],
    ["workers --json", "an object a line, for programs"],
  ],
  flags: clusterFlags,
  words: { min: 0, max: 0 },
  async run({ world, isJson, connect }) {
    const found = await (await connect()).workers();
    if (isJson) {
      for (const worker of found) await world.stdout.write(jsonLine(worker));
      return exitCodes.done;
    }
    if (found.length === 0) {
      await world.stdout.write("This cluster has no workers: what is submitted waits for one.\n");
      return exitCodes.done;
    }
    const look = lookOf(world);
    const rows = found.map((worker) => [
      plain(worker.workerId),
      paintState(look, stateOf(worker)),
      `${worker.busy}/${worker.slots}`,
      worker.cpuMillis === undefined ? "any" : String(worker.cpuMillis / 1_000),
      worker.memoryBytes === undefined ? "any" : size(worker.memoryBytes),
      span(Math.max(0, world.clock.now() - worker.sinceMs)),
      plain(Object.entries(worker.platform).map(([name, value]) => `${name}=${value}`).join(" ")),
      plain(worker.isolation),
    ]);
    await world.stdout.write(
      table(look, ["WORKER", "STATE", "BUSY", "CPUS", "MEMORY", "SINCE", "PLATFORM", "ISOLATION"], rows),
    );
    return exitCodes.done;
  },
});
