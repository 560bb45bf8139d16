/** How every benchmark reports: a table for people, or with `--json` one object a line. */
import process from "node:process";

export interface Figure {
  /** What was measured, unique in its benchmark. */
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  /** The same measured without us, in the same run: bare sockets, a plain spawn. In the unit of the value. */
  readonly baseline?: number;
  /** What the value must be, or the benchmark has failed. */
  readonly target: { readonly atLeast: number } | { readonly atMost: number };
}

const runtime = process.versions["deno"] === undefined
  ? `Node ${process.versions.node}`
  : `Deno ${process.versions["deno"]}`;

/** Prints the figures; sets the exit code to 1 when one misses its target. */
export function report(figures: readonly Figure[], argv: readonly string[]): void {
  const rows = figures.map(({ target, ...figure }) => ({
    ...figure,
    runtime,
    ...(figure.baseline === undefined ? {} : { ratio: round(figure.value / figure.baseline) }),
    target: "atLeast" in target ? `at least ${target.atLeast}` : `at most ${target.atMost}`,
    ok: "atLeast" in target ? figure.value >= target.atLeast : figure.value <= target.atMost,
  }));
  if (argv.includes("--json")) {
    for (const row of rows) console.log(JSON.stringify(row));
  } else {
    console.log(runtime);
    for (
      const { name, value, unit, baseline, ratio, target, ok } of rows.map((row) => ({ ratio: undefined, ...row }))
    ) {
      const compared = baseline === undefined ? "" : `, ${ratio} times the ${round(baseline)} without us`;
      console.log(
        `${ok ? "  " : "✗ "}${name.padEnd(60)} ${String(round(value)).padStart(12)} ${unit} (${target}${compared})`,
      );
    }
  }
  if (rows.some(({ ok }) => !ok)) process.exitCode = 1;
}

/** Three digits are enough for a benchmark. */
const round = (value: number): number => Math.abs(value) >= 100 ? Math.round(value) : Number(value.toPrecision(3));
