import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import type { AnyStateMachine, AnyStateNode, AnyTransitionDefinition } from "xstate";
import { attemptMachine, attemptVersion } from "../src/machines/attempt.ts";
import { jobMachine, jobVersion } from "../src/machines/job.ts";
import { schedulerMachine, schedulerVersion } from "../src/machines/scheduler.ts";
import { taskMachine, taskVersion } from "../src/machines/task.ts";
import { workerMachine, workerVersion } from "../src/machines/worker.ts";
import { nameOf as chartNameOf, pathOf } from "../src/inspector/chart_nodes.ts";
import { checkCharts, children, descendants, drawCharts } from "./draw_charts.ts";
import { root } from "./run_program.ts";

/**
 * Draws docs/machines/ from the charts (`deno task machines`): a Mermaid diagram, the states with what they mean, and
 * every transition; and the charts of the inspector's page. `--check` writes nothing, and ends with 1 when a drawing is not that of its chart.
 */
const drawn: readonly (readonly [machine: AnyStateMachine, version: number])[] = [
  [schedulerMachine, schedulerVersion],
  [jobMachine, jobVersion],
  [taskMachine, taskVersion],
  [workerMachine, workerVersion],
  [attemptMachine, attemptVersion],
];

interface Arrow {
  readonly from: AnyStateNode;
  readonly event: string;
  readonly guard: string;
  /** None: it stays where it is. */
  readonly to: AnyStateNode | undefined;
  readonly does: readonly string[];
}

const nameOf = (thing: unknown): string => chartNameOf(thing) || "(unnamed)";

const idOf = (node: AnyStateNode): string => node.path.join("_");

function arrowsOf(from: AnyStateNode): readonly Arrow[] {
  const always = (from.always ?? []) as readonly AnyTransitionDefinition[];
  const onEvents = [...from.transitions.values()].flat() as readonly AnyTransitionDefinition[];
  return [...always, ...onEvents].map((transition) => ({
    from,
    event: transition.eventType === "" ? "" : transition.eventType,
    guard: transition.guard === undefined ? "" : nameOf(transition.guard),
    to: (transition.target as readonly AnyStateNode[] | undefined)?.[0],
    does: transition.actions.map(nameOf),
  }));
}

/** What stands on an arrow. An arrow without an event is taken as soon as its guard holds. */
const label = ({ event, guard }: Arrow): string =>
  [event, guard === "" ? "" : `[${guard}]`].filter((part) => part !== "").join(" ");

/**
 * The diagram. An arrow of the machine itself is drawn from each of its outermost states; one that stays where it is
 * would only be in the way, and is in the table alone.
 */
function diagram(machine: AnyStateMachine): string {
  const lines = ["stateDiagram-v2", "  direction LR"];
  const nodes = (parent: AnyStateNode, indent: string): void => {
    const first = parent.initial.target[0] as AnyStateNode;
    lines.push(`${indent}[*] --> ${idOf(first)}`);
    for (const node of children(parent)) {
      const isCompound = children(node).length > 0;
      lines.push(`${indent}state "${node.key}" as ${idOf(node)}${isCompound ? " {" : ""}`);
      if (!isCompound) continue;
      nodes(node, `${indent}  `);
      lines.push(`${indent}}`);
    }
  };
  nodes(machine.root, "  ");
  // Arrows between the same two states are one, with a line for each.
  const labels = new Map<string, string[]>();
  const drawArrow = (from: AnyStateNode, arrow: Arrow): void => {
    if (arrow.to === undefined) return;
    const ends = `${idOf(from)} --> ${idOf(arrow.to)}`;
    const before = labels.get(ends);
    if (before === undefined) labels.set(ends, [label(arrow)]);
    else before.push(label(arrow));
  };
  for (const node of descendants(machine.root)) for (const arrow of arrowsOf(node)) drawArrow(node, arrow);
  for (const arrow of arrowsOf(machine.root)) for (const node of children(machine.root)) drawArrow(node, arrow);
  for (const [ends, texts] of labels) lines.push(`  ${ends}: ${texts.join("<br/>")}`);
  return lines.join("\n");
}

const cell = (text: string): string => text.replaceAll("|", "\\|").replaceAll("\n", " ");
const code = (text: string): string => text === "" ? "" : `\`${text}\``;
const table = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
  [head, head.map(() => "---"), ...rows].map((row) => `| ${row.map(cell).join(" | ")} |`).join("\n");

/** The first docstring of the machine's file, less its sketch: what the machine guarantees. */
function guarantee(id: string): string {
  const [, text] = /\/\*\*\n([\s\S]*?)\*\//.exec(readFileSync(join(root, `src/machines/${id}.ts`), "utf8")) ?? [];
  const lines = (text ?? "").split("\n").map((line) => line.replace(/^ \* ?/, "").trimEnd());
  return lines.filter((line) => !line.startsWith("    ") && line !== "").join("\n").trim();
}

function draw(machine: AnyStateMachine, version: number): string {
  const all = descendants(machine.root);
  const states = all.map((
    node,
  ) => [code(pathOf(node)), node.description ?? "", node.entry.map(nameOf).map(code).join(", ")]);
  const arrows = [machine.root, ...all].flatMap(arrowsOf).map(({ from, event, guard, to, does }) => [
    code(pathOf(from)) || "*any*",
    code(event) || "*at once*",
    code(guard),
    to === undefined ? "*stays*" : code(pathOf(to)),
    does.map(code).join(", "),
  ]);
  return `<!-- Made by \`deno task machines\` from src/machines/${machine.id}.ts. -->

# ${machine.id}

${guarantee(machine.id)}

Version ${version} of its saved state. Events are on the arrows, guards in brackets; an arrow without an event is taken as
soon as its guard holds.

\`\`\`mermaid
${diagram(machine)}
\`\`\`

## States

${table(["State", "Meaning", "On entry"], states)}

## Transitions

Of several for one event, the first whose guard holds is taken.

${table(["In", "Hears", "If", "Becomes", "Does"], arrows)}
`;
}

const pathFor = (machine: AnyStateMachine): string => `docs/machines/${machine.id}.md`;

/** Names the drawings that are not those of their charts. */
export async function checkDrawings(): Promise<readonly string[]> {
  const documents = drawn.filter(([machine, version]) => {
    const file = join(root, pathFor(machine));
    return !existsSync(file) || readFileSync(file, "utf8") !== draw(machine, version);
  }).map(([machine]) => `${pathFor(machine)} is not what its chart is: run deno task machines`);
  return [...documents, ...await checkCharts()];
}

if (import.meta.main) {
  if (process.argv.includes("--check")) {
    const problems = await checkDrawings();
    for (const problem of problems) console.log(problem);
    process.exitCode = problems.length === 0 ? 0 : 1;
  } else {
    mkdirSync(join(root, "docs/machines"), { recursive: true });
    for (const [machine, version] of drawn) writeFileSync(join(root, pathFor(machine)), draw(machine, version));
    await drawCharts();
  }
}
