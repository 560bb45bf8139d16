import { expect, test } from "vitest";
import { charts } from "../../../src/inspector/charts.ts";
import type { TaskGraph } from "../../../src/inspector/routes.ts";
import { chartMermaid, graphMermaid, sequenceMermaid } from "../../../src/inspector/web/export.ts";
import { linkTo, placeOf } from "../../../src/inspector/web/place.ts";

const node = (place: number, name: string): TaskGraph["nodes"][number] => ({
  place,
  taskId: `j01m86wgjr5-g7s8jq/${place}` as never,
  name,
  state: "queued",
  isCached: false,
});

test("a task graph, a conversation and each machine are told as Mermaid, whatever their names hold", () => {
  expect(graphMermaid({ nodes: [node(0, 'say "hi"\n'), node(1, "b")], edges: [[0, 1]] })).toBe(
    `flowchart LR\n  t0["say 'hi''<br>queued"]\n  t1["b<br>queued"]\n  t0 --> t1\n`,
  );
  const message = {
    id: "1.0",
    seq: 7,
    atMs: 0,
    from: "scheduler",
    to: "task/x/0",
    type: "task.placed",
    body: "",
  } as never;
  expect(sequenceMermaid(["scheduler", "task/x/0"], [message])).toBe(
    "sequenceDiagram\n  participant m0 as scheduler\n  participant m1 as task/x/0\n  m0->>m1: task.placed (7)\n",
  );
  for (const [kind, chart] of Object.entries(charts)) {
    const text = chartMermaid(chart);
    expect(text.split("{").length, kind).toBe(text.split("}").length);
    for (const { path } of chart.states) if (path !== "") expect(text).toContain(` as ${path.replaceAll(".", "_")}`);
  }
});

test("an address says page, subject, moment and what else was asked, and is read as it was written", () => {
  const written = linkTo("actor", "task/j01m86wgjr5-g7s8jq/0", { at: 482, query: { with: "a,b c", empty: "" } });
  const { page, subject, at, query } = placeOf(written);
  expect({ page, subject, at, query: [...query] }).toEqual({
    page: "actor",
    subject: "task/j01m86wgjr5-g7s8jq/0",
    at: 482,
    query: [["with", "a,b c"]],
  });
  expect(placeOf("").page).toBe("jobs");
  expect(placeOf("#/job/x?at=later").at).toBeUndefined();
});
