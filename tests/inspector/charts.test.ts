import { describe, expect, test } from "vitest";
import { checkCharts } from "../../scripts/draw_charts.ts";
import { charts } from "../../src/inspector/charts.ts";
import { linkTo, placeOf } from "../../src/inspector/web/place.ts";

test("the charts that are kept are those of the machines", async () => {
  expect(await checkCharts()).toEqual([]);
});

describe.each(Object.values(charts))("the chart of $id", ({ states, arrows, ways, width, height }) => {
  test("has no two states that overlap, unless one is within the other", () => {
    for (const a of states) {
      expect(a.x + a.width).toBeLessThanOrEqual(width);
      expect(a.y + a.height).toBeLessThanOrEqual(height);
      for (const b of states) {
        if (a === b || (b.path !== "" && a.path.startsWith(`${b.path}.`))) continue;
        const contains = b.x > a.x && b.y > a.y && b.x + b.width < a.x + a.width && b.y + b.height < a.y + a.height;
        const isApart = a.y + a.height <= b.y || b.y + b.height <= a.y || a.x + a.width <= b.x || b.x + b.width <= a.x;
        const isWithin = a.path !== "" && b.path.startsWith(`${a.path}.`);
        expect(isWithin ? contains : isApart, `${a.path}, ${b.path}`).toBe(true);
      }
    }
  });

  test("has one line from each state to each other that it may lead to, from edge to edge, with its events beside it", () => {
    const wanted = new Set(
      arrows.flatMap(({ from, to }) => to === undefined || to === from ? [] : [`${from} → ${to}`]),
    );
    expect(ways.map(({ from, to }) => `${from} → ${to}`).toSorted()).toEqual([...wanted].toSorted());
    for (const { from, to, line, texts } of ways) {
      for (const [path, [x, y]] of [[from, line[0]!], [to, line.at(-1)!]] as const) {
        const box = states.find((state) => state.path === path)!;
        const isInside = x >= box.x && x <= box.x + box.width && y >= box.y && y <= box.y + box.height;
        const isOnEdge = x === box.x || x === box.x + box.width || y === box.y || y === box.y + box.height;
        expect(isInside && isOnEdge, `${from} → ${to} at ${path}`).toBe(true);
      }
      const events = arrows.filter((arrow) => arrow.from === from && arrow.to === to).map(({ event }) => event);
      expect(texts).toHaveLength(new Set(events).size);
    }
    const texts = ways.flatMap(({ texts }) => texts);
    expect(new Set(texts.map(({ x, y }) => `${x} ${y}`)).size).toBe(texts.length);
  });

  test("says what each state means", () => {
    for (const { path, description } of states) if (path !== "") expect(description, path).not.toBe("");
  });
});

test("an address leads to the page and moment that it was made of", () => {
  const place = placeOf(linkTo("actor", "task/j01k3x9q7fa-0004m2/0", { at: 41, query: { type: "a&b=c" } }));
  expect(place).toMatchObject({ page: "actor", subject: "task/j01k3x9q7fa-0004m2/0", at: 41 });
  expect(Object.fromEntries(place.query)).toEqual({ type: "a&b=c" });
  expect(placeOf("")).toMatchObject({ page: "jobs", subject: "", at: undefined });
  expect(placeOf("#/jobs?at=-1").at).toBeUndefined();
});
