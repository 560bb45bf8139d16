import type { ActionView } from "../../api/http_actions.ts";
import { isDigest } from "../../domain/digest.ts";
import { taskId } from "../../domain/ids.ts";
import { clusterFlags, command } from "../command.ts";
import { exitCodes } from "../exit_codes.ts";
import { text, usage } from "../flags.ts";
import { readTaskRef } from "../ids.ts";
import { count, jsonLine, moment, plain, span } from "../render.ts";

const usersShown = 20;

export const cacheShow = command({
  name: "cache show",
  usage: ["cache show KEY [FLAGS]"],
  about:
    "Shows what is known of a kept result: what came of the action, which task made it on which worker, and who was given it since. KEY is the digest of an action, or a task (a job means its first task).",
  examples: [
    ["cache show j01k3x9q7fa-0004m2/0", "the result that this task made or was given"],
    ["cache show 6f1c…/142 --instance main", "of an action of Bazel, under its instance name"],
  ],
  flags: {
    instance: text("NAME", "With a digest: REAPI's instance name; that of jobs, which is empty, by default"),
    ...clusterFlags,
  },
  words: { min: 1, max: 1 },
  async run({ flags, words, world, isJson, connect }) {
    const key = words[0] ?? "";
    const of = isDigest(key) ? { action: key, instance: flags.instance ?? "" } : { task: taskOf(key) };
    const kept = await (await connect()).actions.show(of);
    await world.stdout.write(isJson ? jsonLine(kept) : keptText(kept));
    return exitCodes.done;
  },
});

function taskOf(key: string) {
  if (!/^j[0-9a-z]{10}-/.test(key)) {
    throw usage(
      `Cannot show a kept result as its key must be an action's digest (HASH/SIZE) or a task such as j01k3x9q7fa-0004m2/0: current value is "${
        key.slice(0, 100)
      }"`,
    );
  }
  const { jobId, index = 0 } = readTaskRef(key);
  return taskId(jobId, index);
}

/** "j01k3x9q7fa-0004m2/0 (attempt 1) on w1 at …", "upload of a client at …" */
export function madeText({ by, taskId, attempt, workerId, requestor, atMs }: ActionView["made"]): string {
  const who = by === "upload"
    ? "a client that ran it by itself"
    : `${taskId ?? "a task"}${attempt === undefined ? "" : ` (attempt ${attempt})`}${
      workerId === undefined ? "" : ` on ${plain(workerId)}`
    }`;
  const whom = requestor === undefined || requestor === "" ? "" : ` for ${plain(requestor)}`;
  return `${who}${whom} at ${moment(atMs)}`;
}

function resultLines({ exitCode, stdout, stderr, outputs }: ActionView["result"]): readonly string[] {
  return [
    `exit      ${exitCode}`,
    ...(stdout === undefined ? [] : [`stdout    ${stdout}`]),
    ...(stderr === undefined ? [] : [`stderr    ${stderr}`]),
    ...outputs.map((output) => {
      const path = plain(output.path === "" ? "." : output.path);
      if (output.kind === "symlink") return `output    ${path} -> ${plain(output.target)}`;
      const digest = output.digest ?? (output.kind === "directory" ? output.tree : undefined);
      return `output    ${digest}  ${path}${output.kind === "directory" ? "/" : ""}`;
    }),
  ];
}

function keptText(kept: ActionView): string {
  const { action, instance, made, useCount, usedAtMs, usedBy, result, differed } = kept;
  const users = usedBy.slice(-usersShown);
  return [
    `action    ${action}${instance === "" ? "" : `  (instance ${plain(instance)})`}`,
    `made by   ${madeText(made)}`,
    `took      ${span(made.durationMs)}`,
    ...resultLines(result),
    `used      ${useCount === 0 ? "never" : `${count(useCount, "time")}, last at ${moment(usedAtMs)}`}`,
    ...(users.length === 0
      ? []
      : [`used by   ${users.join(" ")}${usedBy.length > users.length ? " and older ones" : ""}`]),
    ...(differed === undefined ? [] : [
      `FLAKY     the same action ended otherwise ${count(differed.count, "time")}, last by ${madeText(differed.made)}:`,
      ...resultLines(differed.result).map((line) => `          ${line}`),
    ]),
  ].map((line) => `${line}\n`).join("");
}
