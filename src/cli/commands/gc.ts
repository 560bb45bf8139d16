import { clusterFlags, command } from "../command.ts";
import { exitCodes } from "../exit_codes.ts";
import { toggle } from "../flags.ts";
import { count, jsonLine, moment, plain, size } from "../render.ts";

export const gc = command({
  name: "gc",
  usage: ["gc [--dry-run]"],
  about:
    "Brings the store within its budget now, as the cluster does by itself when it is nearly used up: what was used least recently goes, what is named, queued, running or was used lately stays.",
  examples: [["gc --dry-run", "what would go, and why the rest stays"]],
  flags: { "dry-run": toggle("Say it, and remove nothing"), ...clusterFlags },
  words: { min: 0, max: 0 },
  async run({ flags, world, isJson, connect }) {
    const report = await (await connect()).store.collect({ dryRun: flags["dry-run"] });
    if (isJson) {
      await world.stdout.write(jsonLine(report));
      return exitCodes.done;
    }
    const { goes, results, orphans, stays, before, isDryRun } = report;
    const verb = isDryRun ? "Would go" : "Gone";
    const when = goes.newestUseAtMs === undefined ? "" : `, last used before ${moment(goes.newestUseAtMs)}`;
    const lines = [
      `${verb}: ${count(goes.count, "blob")}, ${size(goes.bytes)}${when}${
        results > 0 ? `; ${count(results, "kept result")}` : ""
      }${orphans.count > 0 ? `; ${count(orphans.count, "file")} that a crash left, ${size(orphans.bytes)}` : ""}`,
      ...stays.map(({ why, count: blobs, bytes }) => `Stays, ${plain(why)}: ${count(blobs, "blob")}, ${size(bytes)}`),
      `The budget is ${size(before.maxBytes)}, of which ${size(before.bytes)} were used.`,
    ];
    await world.stdout.write(`${lines.join("\n")}\n`);
    return exitCodes.done;
  },
});
