import process from "node:process";
import { asFault, faultData } from "../domain/fault.ts";
import { realClock } from "../runtime/clock.ts";
import { ownLauncher } from "./launch.ts";
import { type FromStarter, linesOf, type ToStarter } from "./launcher_lines.ts";

// Starts commands for a runner, and ends with it.
const launcher = ownLauncher(realClock);
/** Each line costs both sides as much as a start's preparations: of most commands there is one. */
const tellStartAfterMs = 10;
const say = (message: FromStarter): void => void process.stdout.write(JSON.stringify(message) + "\n");

linesOf(process.stdin, (line) => {
  const { number, launch } = JSON.parse(line) as ToStarter;
  launcher.start(launch).then(async ({ ended, ...launched }) => {
    const started = { number, ...launched };
    let isTold = false;
    const cancelTelling = realClock.at(launched.startedAtMs + tellStartAfterMs, () => {
      isTold = true;
      say(started);
    });
    const end = await ended;
    cancelTelling();
    say(isTold ? { number, end } : { ...started, end });
  }, (thrown) => say({ number, fault: faultData(asFault(thrown)) }));
});
process.stdin.on("end", () => process.exit());
process.stdout.on("error", () => process.exit());
