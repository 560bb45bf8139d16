import { describe, expect, test } from "vitest";
import { charts } from "../../src/inspector/charts.ts";
import { linkTo, placeOf } from "../../src/inspector/web/place.ts";

describe.each(Object.values(charts))("the chart of $id", (chart) => {
  test("has no two states that overlap, unless one is within the other", () => {
    for (const a of chart.states) {
      expect(a.x + a.width).toBeLessThanOrEqual(chart.width);
      expect(a.y + a.height).toBeLessThanOrEqual(chart.height);
      for (const b of chart.states) {
        if (a === b) continue;
        const isWithin = a.path === "" || b.path.startsWith(`${a.path}.`);
        const contains = b.x > a.x && b.y > a.y && b.x + b.width <= a.x + a.width && b.y + b.height <= a.y + a.height;
        const isApart = a.y + a.height <= b.y || b.y + b.height <= a.y;
        if (isWithin) expect(contains, `${b.path} within ${a.path}`).toBe(true);
        else if (b.path !== "" && !a.path.startsWith(`${b.path}.`)) expect(isApart, `${a.path}, ${b.path}`).toBe(true);
      }
    }
  });

  test("has a row for each arrow, and each line ends at the state that it leads to", () => {
    const rows = chart.arrows.map(({ y }) => y);
    expect(new Set(rows).size).toBe(rows.length);
    for (const { to, line } of chart.arrows) {
      if (to === undefined) expect(line).toEqual([]);
      else {
        const target = chart.states.find(({ path }) => path === to)!;
        const [x, y] = line.at(-1)!;
        expect(x).toBeGreaterThanOrEqual(target.x + target.width);
        expect(y).toBeGreaterThan(target.y);
        expect(y).toBeLessThan(target.y + target.height);
      }
    }
  });

  test("says what each state means", () => {
    for (const { path, description } of chart.states) if (path !== "") expect(description, path).not.toBe("");
  });
});

test("an address leads to the page and moment that it was made of", () => {
  const place = placeOf(linkTo("actor", "task/j01k3x9q7fa-0004m2/0", { at: 41, query: { type: "a&b=c" } }));
  expect(place).toMatchObject({ page: "actor", subject: "task/j01k3x9q7fa-0004m2/0", at: 41 });
  expect(Object.fromEntries(place.query)).toEqual({ type: "a&b=c" });
  expect(placeOf("")).toMatchObject({ page: "jobs", subject: "", at: undefined });
  expect(placeOf("#/jobs?at=-1").at).toBeUndefined();
});
