import * as fc from "fast-check";
import { expect, test } from "vitest";
import { depths, layered } from "../../../src/inspector/web/layers.ts";
import { ticksOf } from "../../../src/inspector/web/timeline.ts";

const sizes = { nodeWidth: 100, nodeHeight: 40, gapX: 30, gapY: 10 };
const anyGraph = fc.integer({ min: 2, max: 30 }).chain((count) =>
  fc.record({
    ids: fc.constant(Array.from({ length: count }, (_, place) => `n${place}`)),
    edges: fc.array(
      fc.tuple(fc.nat(count - 1), fc.nat(count - 1)).filter(([a, b]) => a < b)
        .map(([a, b]) => ({ from: `n${a}`, to: `n${b}` })),
      { maxLength: 60 },
    ),
  })
);

test("of any job's tasks no two are drawn on each other, and each stands to the right of all that it needs", () => {
  fc.assert(fc.property(anyGraph, ({ ids, edges }) => {
    const { nodes, edges: lines, width, height } = layered(ids, edges, sizes);
    expect(nodes.map(({ id }) => id).toSorted()).toEqual(ids.toSorted());
    expect(lines).toHaveLength(edges.length);
    const at = new Map(nodes.map((node) => [node.id, node]));
    for (const { from, to } of edges) {
      expect(at.get(to)!.x).toBeGreaterThanOrEqual(at.get(from)!.x + sizes.nodeWidth + sizes.gapX);
    }
    for (const a of nodes) {
      expect(a.x + sizes.nodeWidth).toBeLessThanOrEqual(width);
      expect(a.y + sizes.nodeHeight).toBeLessThanOrEqual(height);
      for (const b of nodes) {
        if (a === b) continue;
        expect(Math.abs(a.x - b.x) >= sizes.nodeWidth || Math.abs(a.y - b.y) >= sizes.nodeHeight).toBe(true);
      }
    }
  }));
});

test("a chain of 20,000 tasks and a circle are laid out as well", () => {
  const ids = Array.from({ length: 20_000 }, (_, place) => String(place));
  const chain = ids.slice(1).map((to, place) => ({ from: String(place), to }));
  expect(depths(ids, chain).get("19999")).toBe(19_999);
  const circle = [{ from: "a", to: "b" }, { from: "b", to: "a" }, { from: "a", to: "a" }];
  expect(layered(["a", "b"], circle, sizes).nodes).toHaveLength(2);
});

test("no line of any job's graph runs over a task that it does not begin or end at", () => {
  fc.assert(fc.property(anyGraph, ({ ids, edges }) => {
    const { nodes, edges: lines } = layered(ids, edges, sizes);
    for (const { from, to, line } of lines) {
      // Between columns it bends; across a column it runs level.
      for (const [, x, y, end] of line.matchAll(/([\d.]+) ([\d.]+)H([\d.]+)/g)) {
        for (const node of nodes) {
          const isMet = Number(x) < node.x + sizes.nodeWidth && Number(end) > node.x && Number(y) >= node.y &&
            Number(y) <= node.y + sizes.nodeHeight;
          expect(isMet, `${from} → ${to} over ${node.id}`).toBe(false);
        }
      }
      const columns = nodes.find(({ id }) => id === to)!.layer - nodes.find(({ id }) => id === from)!.layer;
      expect(line.match(/H/g)?.length ?? 0).toBe(Math.max(0, columns - 1));
    }
  }));
});

test("a chain is a straight line, and crossed ties are uncrossed", () => {
  const { nodes } = layered(
    ["a", "b", "c", "d"],
    [{ from: "a", to: "d" }, { from: "b", to: "c" }],
    sizes,
  );
  const y = (id: string): number => nodes.find((node) => node.id === id)!.y;
  expect(y("a")).toBe(y("d"));
  expect(y("b")).toBe(y("c"));
});

test("a time axis has round marks, and not too many", () => {
  fc.assert(fc.property(fc.integer({ min: 1, max: 1e11 }), fc.integer({ min: 2, max: 20 }), (spanMs, most) => {
    const ticks = ticksOf(spanMs, most);
    expect(ticks[0]).toBe(0);
    expect(ticks.length).toBeLessThanOrEqual(most + 1);
    expect(ticks.at(-1)!).toBeLessThanOrEqual(spanMs);
  }));
  expect(ticksOf(2_100, 8)).toEqual([0, 500, 1_000, 1_500, 2_000]);
});
