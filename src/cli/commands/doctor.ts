import { clusterFlags, command } from "../command.ts";
import { diagnose, type Finding } from "../diagnosis.ts";
import { exitCodes } from "../exit_codes.ts";
import { jsonLine, lookOf, paint, plain, type Style } from "../render.ts";

const styles: Readonly<Record<Finding["level"], Style>> = { ok: "green", warn: "yellow", bad: "red" };

export const doctor = command({
  name: "doctor",
  usage: ["doctor [FLAGS]"],
  about:
    "Looks whether this machine has what a cluster needs: runtime, isolation, disk, limits, clock, port, shell, and the cluster that runs. Says of each what is missing and what follows from it. Changes nothing. Exits 1 if something keeps a cluster from working.",
  examples: [
    ["doctor", "a line for each thing"],
    ["doctor --json", "an object a line, for programs"],
  ],
  flags: clusterFlags,
  words: { min: 0, max: 0 },
  async run({ flags, world, isJson }) {
    const findings = diagnose(await world.facts({ cluster: flags.cluster, tokenFile: flags["token-file"] }));
    const look = lookOf(world);
    for (const { level, what, says } of findings) {
      await world.stdout.write(
        isJson
          ? jsonLine({ level, what, says })
          : `${paint(look, styles[level], level.padEnd(4))}  ${what.padEnd(10)}  ${plain(says)}\n`,
      );
    }
    return findings.some(({ level }) => level === "bad") ? exitCodes.failed : exitCodes.done;
  },
});
