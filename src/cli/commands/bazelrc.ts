import type { Client } from "../../api/client.ts";
import { clusterFlags, command } from "../command.ts";
import { exitCodes } from "../exit_codes.ts";
import { findCluster } from "../find_cluster.ts";
import { text, toggle, usage } from "../flags.ts";
import { jsonLine, span } from "../render.ts";

/** So many actions for a slot: one runs, and the next one waits beside it. */
const jobsPerSlot = 2;
const jobsMax = 1_000;
/** Bazel waits 5 s at most before each: so a cluster may be away for two minutes. */
const retries = 30;
/** With the cache alone: most of what Bazel does at a time waits for answers; it runs no more than its machine can. */
const jobsCached = 32;

export const bazelrc = command({
  name: "bazelrc",
  usage: ["bazelrc [--cache-only | --read-only] [FLAGS] >> .bazelrc"],
  about:
    "Prints the flags with which Bazel uses this cluster: its workers and its cache, or the cache alone. Nothing else has to be set. They hold for Bazel 2.1 and newer; what only newer ones know is in a config of its own.",
  examples: [
    ["bazelrc >> .bazelrc", "Bazel's actions run here, and their results are kept"],
    ["bazelrc --cache-only >> .bazelrc", "they run on Bazel's own machine, and their results are kept here"],
    ["bazelrc --read-only >> .bazelrc", "they run there, results of others are used, and none are sent"],
  ],
  flags: {
    "cache-only": toggle("Use the cache, and not the workers"),
    "read-only": toggle("Use what is in the cache, and put nothing there"),
    instance: text("NAME", "Results are kept apart by instance; none by default"),
    ...clusterFlags,
  },
  words: { min: 0, max: 0 },
  async run({ flags, world, isJson, connect }) {
    if (flags["cache-only"] && flags["read-only"]) {
      throw usage("Cannot print both as it must be --cache-only or --read-only: who only reads does not run anything");
    }
    const target = findCluster({ cluster: flags.cluster, tokenFile: flags["token-file"] }, world);
    const { hostname, host, protocol, port } = new URL(target.url);
    const isOwn = /^(localhost|127\.[0-9.]+|\[::1\])$/.test(hostname);
    const isSecure = protocol === "https:";
    const url = `${isSecure ? "grpcs" : "grpc"}://${port === "" ? `${host}:${isSecure ? 443 : 80}` : host}`;
    const client = await connect();
    const { guaranteedAgeMs } = await client.store.usage();
    const executes = !flags["cache-only"] && !flags["read-only"];
    const lines = [
      ...(executes
        ? [
          "# Actions run on the cluster's workers.",
          `build --remote_executor=${url}`,
          `build --jobs=${await jobsOf(client)}`,
          "# Each loss of the connection takes a retry of every action that waits; 5 are little for restarts.",
          `build --remote_retries=${retries}`,
        ]
        : [
          flags["read-only"]
            ? "# Actions run here, unless the cluster has their results."
            : "# Actions run here; the cluster keeps their results.",
          `build --remote_cache=${url}`,
          `build --remote_upload_local_results=${flags["read-only"] ? "false" : "true"}`,
          `build --jobs=${jobsCached}`,
        ]),
      ...(flags.instance === undefined ? [] : [`build --remote_instance_name=${flags.instance}`]),
      ...(isOwn ? [] : [
        "# The cluster's token; who reads this file may use the cluster.",
        `build --remote_header=authorization="Bearer ${target.token ?? "TOKEN"}"`,
      ]),
      `# What was answered stays for at least ${span(guaranteedAgeMs)}. With --config=remote_ttl, Bazel 7 and newer`,
      "# rely on that, and ask again later.",
      `build:remote_ttl --experimental_remote_cache_ttl=${Math.max(1, Math.floor(guaranteedAgeMs / 1_000))}s`,
      "# With --config=remote_zstd, Bazel 7 and newer send and fetch blobs smaller, and they lie so here; the gateway must",
      "# run on Deno, or on Node 22.15 or newer.",
      "build:remote_zstd --remote_cache_compression",
    ];
    await world.stdout.write(
      isJson
        ? jsonLine({ flags: lines.filter((line) => !line.startsWith("#")), guaranteedAgeMs })
        : `${lines.join("\n")}\n`,
    );
    return exitCodes.done;
  },
});

/** So many that no slot is idle, and as many as Bazel would run alone at the least. */
async function jobsOf(client: Client): Promise<number> {
  const slots = (await client.workers()).filter(({ state }) => state !== "lost")
    .reduce((sum, worker) => sum + worker.slots, 0);
  return Math.min(jobsMax, Math.max(8, slots * jobsPerSlot));
}
