import { readGatewayConfig } from "../../roles/config.ts";
import { command } from "../command.ts";
import { roleFlags, storeFlags, typed } from "../role_flags.ts";

export const gateway = command({
  name: "gateway",
  usage: ["gateway [FLAGS]"],
  about:
    "Starts a gateway alone: where people, browsers and workers reach the cluster's jobs and blobs. For clusters of several machines; on one, use cluster.",
  examples: [
    ["gateway --data /srv/scoot --scheduler 127.0.0.1:9091", "on 127.0.0.1:9090"],
    ["gateway --listen 10.0.0.1:9090 --allow-network --scheduler 10.0.0.1:9091", "for a network that you trust"],
  ],
  flags: { ...roleFlags, ...storeFlags },
  words: { min: 0, max: 0 },
  async run({ flags, world }) {
    const config = readGatewayConfig({ flags: typed(flags), env: world.env, userDir: world.userDir });
    const { runGateway } = await import("../../roles/standalone.ts");
    return await runGateway(config);
  },
});
