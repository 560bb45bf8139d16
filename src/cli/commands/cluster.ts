import { readClusterConfig } from "../../roles/config.ts";
import { command, jsonFlag } from "../command.ts";
import { text, toggle } from "../flags.ts";
import { storeFlags, typed } from "../role_flags.ts";

export const cluster = command({
  name: "cluster",
  usage: ["cluster [FLAGS]"],
  about:
    "Starts a whole cluster on this machine and stays with it: Ctrl-C stops it in good order, a second one at once. What it accepted is on disk before it says so, and goes on when it starts again.",
  examples: [
    ["cluster", "on http://127.0.0.1:9090, with its data in ~/.local/state/scoot-actors"],
    ["cluster --port 0 --data ./try --ready-file ./try/ready.json", "one beside it: any free port, its own data"],
    ["cluster --workers 4 --slots 2", "four workers, each runs two commands at once"],
    ["run -- make test", "then, in another terminal"],
  ],
  flags: {
    data: text("DIR", "Where everything is kept (SCOOT_DATA); ~/.local/state/scoot-actors by default"),
    port: text("PORT", "One port for people, browsers and Bazel (SCOOT_PORT); 9090 by default, 0 for any that is free"),
    workers: text("N", "How many workers (SCOOT_WORKERS); 2 by default"),
    slots: text(
      "N",
      "How many commands each worker runs at once (SCOOT_SLOTS); together as many as there are cores by default",
    ),
    ...storeFlags,
    "guaranteed-age": text(
      "TIME",
      "What was stored, asked for or answered stays at least so long (SCOOT_GUARANTEED_AGE); 1h by default",
    ),
    "ready-file": text("FILE", "Written when the cluster can be used, removed when it stops (SCOOT_READY_FILE)"),
    strategy: text("NAME", "local.local: each part a process (the default); local.memory: all in one (SCOOT_STRATEGY)"),
    detach: toggle("Go on when the terminal or program that started it is gone (SCOOT_DETACH)"),
    host: text("HOST", "The address to listen on (SCOOT_HOST); 127.0.0.1 by default"),
    "allow-network": toggle(
      "Let --host be one that other machines reach; whoever has the token can run commands as you here (SCOOT_ALLOW_NETWORK)",
    ),
    ...jsonFlag,
  },
  words: { min: 0, max: 0 },
  async run({ flags, world }) {
    const config = readClusterConfig({ flags: typed(flags), env: world.env, userDir: world.userDir });
    const { runLocalCluster } = await import("../../roles/local.ts");
    return await runLocalCluster(config);
  },
});
