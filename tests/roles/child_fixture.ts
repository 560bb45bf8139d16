/** A supervised child of the tests. Each argument is something that it does, in order. */
import { appendFileSync } from "node:fs";
import process from "node:process";
import { onParentLost } from "../../src/roles/process_supervisor.ts";

for (const step of process.argv.slice(2)) {
  const [verb = "", rest = ""] = step.split(/ (.*)/s);
  if (verb === "say") appendFileSync(rest, `${process.pid} ${process.env["GREETING"] ?? ""}\n`);
  if (verb === "exit") process.exit(Number(rest));
  if (verb === "ignore") process.on(rest as NodeJS.Signals, () => {});
  if (verb === "on-term-say") {
    process.on("SIGTERM", () => {
      appendFileSync(rest, `${process.pid} stopped\n`);
      process.exit(0);
    });
  }
  if (verb === "die-with-parent") onParentLost(() => process.exit(0));
  if (verb === "stay") setInterval(() => {}, 60_000);
}
