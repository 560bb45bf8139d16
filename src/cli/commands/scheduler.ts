import { readSchedulerConfig } from "../../roles/config.ts";
import { command } from "../command.ts";
import { roleFlags, typed } from "../role_flags.ts";

export const scheduler = command({
  name: "scheduler",
  usage: ["scheduler [FLAGS]"],
  about:
    "Starts a scheduler alone: it takes jobs from gateways and gives tasks to workers, which dial it. For clusters of several machines; on one, use cluster.",
  examples: [
    ["scheduler --data /srv/scoot", "on 127.0.0.1:9091"],
    ["scheduler --listen 10.0.0.1:9091 --allow-network", "for workers and gateways on a network that you trust"],
  ],
  flags: {
    data: roleFlags.data,
    listen: roleFlags.listen,
    "token-file": roleFlags["token-file"],
    "allow-network": roleFlags["allow-network"],
  },
  words: { min: 0, max: 0 },
  async run({ flags, world }) {
    const config = readSchedulerConfig({ flags: typed(flags), env: world.env, userDir: world.userDir });
    const { runScheduler } = await import("../../roles/standalone.ts");
    return await runScheduler(config);
  },
});
