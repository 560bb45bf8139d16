import { existsSync, writeFileSync } from "node:fs";
import process from "node:process";
import type { Entry } from "../../src/snapshots/states/states.ts";
import { runMember } from "../../src/roles/member_process.ts";

/**
 * A member whose scheduler kills itself once, with SIGKILL, at a commit that holds an event of the named type: before the
 * commit is begun, or when it is durable and nothing of it was said. DIE_AT is `before:TYPE` or `after:TYPE`, and
 * DIE_MARK the file that remembers that it was done.
 */
const [when, type] = (process.env["DIE_AT"] ?? "").split(":");
const mark = process.env["DIE_MARK"] ?? "";
const die = (): void => {
  writeFileSync(mark, "");
  process.kill(process.pid, "SIGKILL");
};
const isTheOne = (entries: readonly Entry[]): boolean =>
  !existsSync(mark) && existsSync(`${mark}.armed`) &&
  entries.some((entry) => (entry.cause.event as { type: string }).type === type);

await runMember({
  aroundStates: (states) => ({
    ...states,
    async commit(entries) {
      const now = isTheOne(entries);
      if (now && when === "before") return die();
      await states.commit(entries);
      if (now) die();
    },
  }),
});
