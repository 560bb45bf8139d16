import { readWorkerConfig } from "../../roles/config.ts";
import { command } from "../command.ts";
import { list, text } from "../flags.ts";
import { roleFlags, typed } from "../role_flags.ts";

export const worker = command({
  name: "worker",
  usage: ["worker [FLAGS]"],
  about:
    "Starts a worker alone: it dials a scheduler for tasks and a gateway for blobs, and runs what it is given as you. For clusters of several machines; on one, use cluster.",
  examples: [
    [
      "worker --scheduler 10.0.0.1:9091 --gateway 10.0.0.1:9090 --token-file ./token",
      "as many commands at once as there are cores",
    ],
    [
      "worker --worker-id lab-3 --slots 2 --platform gpu=a100",
      "with a name and a property that tasks may ask for",
    ],
  ],
  flags: {
    scheduler: roleFlags.scheduler,
    gateway: text("HOST:PORT", "Where the gateway is (SCOOT_GATEWAY); 127.0.0.1:9090 by default"),
    slots: text("N", "How many commands it runs at once (SCOOT_SLOTS); as many as there are cores by default"),
    "worker-id": text("NAME", "Its name, which it keeps when it restarts (SCOOT_WORKER_ID); the machine's by default"),
    platform: list(
      "NAME=VALUE",
      "What tasks may ask for, beside OSFamily and ISA of this machine (SCOOT_PLATFORM, separated by commas)",
    ),
    "max-size": text("SIZE", "The blobs that it keeps near take at most so much (SCOOT_MAX_SIZE); 20G by default"),
    data: text("DIR", "Where it works and keeps results until they are taken (SCOOT_DATA)"),
    "token-file": roleFlags["token-file"],
  },
  words: { min: 0, max: 0 },
  async run({ flags, world }) {
    const config = readWorkerConfig({ flags: typed(flags), env: world.env, userDir: world.userDir });
    const { runWorker } = await import("../../roles/standalone.ts");
    return await runWorker(config);
  },
});
