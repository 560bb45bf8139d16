import { rm } from "node:fs/promises";
import { resolve } from "node:path";
import { clusterFlags, command } from "../command.ts";
import { exitCodes } from "../exit_codes.ts";
import { textOf, toggle, usage, whole } from "../flags.ts";
import { watchInterrupts } from "../interrupts.ts";
import { jsonLine, plain } from "../render.ts";

export const inspect = command({
  name: "inspect",
  usage: ["inspect [--read-only] [FLAGS]", "inspect FILE [--port PORT] [--json]"],
  about:
    "Prints the address of the page on which the cluster is seen: every job, task and worker, as they are and as they were. With the FILE of a job that job export wrote, it shows that, without a cluster, until Ctrl-C. The address holds what opens the page: give it to nobody who may not see it.",
  examples: [
    ["inspect", "the page of the cluster that you started last"],
    ["inspect --read-only", "an address with which one may look, and change nothing"],
    ["inspect broken.scootjob", "what happened in a job of another cluster"],
  ],
  flags: {
    "read-only": toggle("With a token that may look and no more; it is the same as long as the cluster's own is"),
    port: textOf("PORT", "For a FILE: where it is shown; one that is free by default", whole(0, 65_535)),
    ...clusterFlags,
  },
  words: { min: 0, max: 1 },
  async run({ flags, words: [file], world, isJson }) {
    if (file === undefined) {
      if (flags.port !== undefined) throw usage("Cannot use --port without a FILE: a cluster has its own");
      const { findCluster } = await import("../find_cluster.ts");
      const { viewTokenOf } = await import("../../transport/secret.ts");
      const { url, token } = findCluster({ cluster: flags.cluster, tokenFile: flags["token-file"] }, world);
      const shown = token === undefined || !flags["read-only"] ? token : viewTokenOf(token);
      const address = `${url}/${shown === undefined ? "" : `#token=${encodeURIComponent(shown)}`}`;
      await world.stdout.write(isJson ? jsonLine({ address }) : `${address}\n`);
      return exitCodes.done;
    }
    const interrupts = watchInterrupts(world);
    const dir = world.temporaryFolder();
    try {
      const { viewSealed } = await import("../../roles/sealed_view.ts");
      const view = await viewSealed({ file: resolve(world.userDir, file), dir, port: flags.port ?? 0 });
      try {
        const { address, jobId } = view;
        await world.stdout.write(
          isJson ? jsonLine({ address, jobId }) : `Job ${jobId} of ${plain(file)}, until Ctrl-C:\n${address}\n`,
        );
        if (!interrupts.first.aborted) {
          await new Promise<void>((done) => interrupts.first.addEventListener("abort", () => done(), { once: true }));
        }
        return exitCodes.done;
      } finally {
        await view.close();
      }
    } finally {
      interrupts.close();
      await rm(dir, { recursive: true, force: true });
    }
  },
});
