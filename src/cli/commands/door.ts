import { readDoorConfig } from "../../roles/config.ts";
import { command } from "../command.ts";
import { roleFlags, storeFlags, typed } from "../role_flags.ts";

export const door = command({
  name: "door",
  usage: ["door [FLAGS]"],
  about:
    "Starts a gateway behind a door: the door keeps the port, so that connections wait while the gateway restarts instead of being refused. Takes what gateway takes.",
  examples: [["door --data /srv/scoot --scheduler 127.0.0.1:9091", "on 127.0.0.1:9090"]],
  flags: { ...roleFlags, ...storeFlags },
  words: { min: 0, max: 0 },
  async run({ flags, world }) {
    const config = readDoorConfig({ flags: typed(flags), env: world.env, userDir: world.userDir });
    const { runDoor } = await import("../../roles/standalone.ts");
    return await runDoor(config);
  },
});
