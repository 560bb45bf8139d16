/** A supervisor to be killed: supervises a child with a channel and one without, as its arguments say. */
import process from "node:process";
import { superviseProcesses } from "../../src/roles/process_supervisor.ts";
import { silentLog } from "../../src/observability/log.ts";
import { realClock } from "../../src/runtime/clock.ts";
import { realRandom } from "../../src/runtime/random.ts";

const supervisor = superviseProcesses({ clock: realClock, random: realRandom, log: silentLog, onGivenUp: () => {} });
const module = new URL("./child_fixture.ts", import.meta.url);
for (const channel of [true, false]) {
  supervisor.start({ name: `channel ${channel}`, module, args: process.argv.slice(2), env: process.env, channel });
}
