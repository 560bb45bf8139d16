import process from "node:process";
import { asFault, faultData } from "../domain/fault.ts";
import { realClock } from "../runtime/clock.ts";
import { ownLauncher } from "./launch.ts";
import { type FromStarter, linesOf, type ToStarter } from "./launcher_lines.ts";

// Starts commands for a runner, and ends with it.
const launcher = ownLauncher(realClock);
const say = (message: FromStarter): void => void process.stdout.write(JSON.stringify(message) + "\n");

linesOf(process.stdin, (line) => {
  const { number, launch } = JSON.parse(line) as ToStarter;
  launcher.start(launch).then(({ pid, paths, ended }) => {
    say({ number, pid, paths });
    return ended.then((end) => say({ number, end }));
  }, (thrown) => say({ number, fault: faultData(asFault(thrown)) }));
});
process.stdin.on("end", () => process.exit());
process.stdout.on("error", () => process.exit());
