import process from "node:process";
import { parseArgs } from "node:util";
import { readClusterConfig } from "../../src/roles/config.ts";
import { runLocalCluster } from "../../src/roles/local.ts";

/** A cluster whose scheduler dies once, at the moment that DIE_AT names; see dying_member.ts. */
const { values } = parseArgs({
  options: {
    data: { type: "string" },
    port: { type: "string" },
    workers: { type: "string" },
    slots: { type: "string" },
    "ready-file": { type: "string" },
  },
});
const config = readClusterConfig({ flags: values, env: {}, userDir: process.cwd() });
process.exit(await runLocalCluster(config, new URL("./dying_member.ts", import.meta.url)));
