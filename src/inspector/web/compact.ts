import type { Chart, ChartArrow, ChartState } from "../charts.ts";

/**
 * A machine small enough to be seen whole: its states below each other, and one arrow from each to each that it may lead
 * to, however many events and guards there are for it. Pure.
 */
export interface Compact {
  readonly width: number;
  readonly height: number;
  readonly boxes: readonly Box[];
  readonly ways: readonly Way[];
}

export interface Box {
  readonly state: ChartState;
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** All arrows of one state to one other. */
export interface Way {
  readonly from: string;
  readonly to: string;
  readonly arrows: readonly ChartArrow[];
  readonly line: string;
  /** The point and the direction of its head: "down", or "left" into the side of a box. */
  readonly head: { readonly x: number; readonly y: number; readonly to: "down" | "left" };
  /** Where a text of it may stand. */
  readonly text: { readonly x: number; readonly y: number };
}

const left = 12;
const leafWidth = 168;
const leafHeight = 42;
const headHeight = 28;
const indent = 14;
const gap = 26;
const laneWidth = 15;
const bow = 7;

/**
 * States so that their ways lead downwards as far as can be: siblings in the reverse of the order in which one is done with
 * them when all ways are gone from the first one.
 */
function alongWays(states: readonly ChartState[], arrows: readonly ChartArrow[]): readonly ChartState[] {
  const ordered = (parent: string): readonly ChartState[] => {
    const siblings = states.filter(({ path }) => path !== "" && parentOf(path) === parent);
    const holding = (path: string): ChartState | undefined =>
      siblings.find((one) => path === one.path || path.startsWith(`${one.path}.`));
    const done: ChartState[] = [];
    const begun = new Set<ChartState>();
    const visit = (state: ChartState): void => {
      if (begun.has(state)) return;
      begun.add(state);
      const next = arrows.flatMap(({ from, to }) =>
        to !== undefined && holding(from) === state ? holding(to) ?? [] : []
      );
      // Backwards, so that of two that lead nowhere else the first stays the first.
      for (const one of next.toReversed()) visit(one);
      done.push(state);
    };
    for (const one of siblings.toSorted((a, b) => Number(b.isInitial) - Number(a.isInitial))) visit(one);
    const isEnd = (state: ChartState): boolean =>
      !arrows.some(({ from, to }) => to !== undefined && holding(from) === state && holding(to) !== state);
    const down = done.toReversed();
    return [...down.filter((one) => !isEnd(one)), ...down.filter(isEnd)].flatMap((one) => [one, ...ordered(one.path)]);
  };
  return [...states.filter(({ path }) => path === ""), ...ordered("")];
}

const parentOf = (path: string): string => path.slice(0, Math.max(0, path.lastIndexOf(".")));

export function compactOf({ states, arrows }: Chart): Compact {
  const hasAnywhere = arrows.some(({ from }) => from === "");
  const shown = states.filter(({ path }) => path !== "" || hasAnywhere);
  const inOrder = alongWays(shown, arrows);
  const paths = new Set(shown.map(({ path }) => path));
  const depthOf = (path: string): number => (path === "" ? 0 : path.split(".").length - (hasAnywhere ? 0 : 1));
  const deepest = Math.max(...shown.map(({ path }) => depthOf(path)));
  const right = left + leafWidth + deepest * indent * 2;
  const boxes: Box[] = [];
  const place = (state: ChartState, top: number): number => {
    const inset = left + depthOf(state.path) * indent;
    const inner = inOrder.filter(({ path }) => path !== "" && path !== state.path && parentOf(path) === state.path);
    const at = boxes.length;
    let y = top + headHeight + 4;
    inner.forEach((child, index) => y = place(child, index === 0 ? y : y + gap));
    const height = inner.length === 0 ? leafHeight : y - top + 12;
    boxes.splice(at, 0, { state, x: inset, y: top, width: right - (inset - left) - inset, height });
    return top + height;
  };
  let bottom = 12 - gap;
  for (const state of inOrder.filter(({ path }) => path === "" || !paths.has(parentOf(path)))) {
    bottom = place(state, bottom + gap);
  }
  const boxOf = new Map(boxes.map((box) => [box.state.path, box]));

  const bundles = new Map<string, ChartArrow[]>();
  for (const arrow of arrows) {
    if (arrow.to === undefined || arrow.to === arrow.from) continue;
    const key = `${arrow.from} ${arrow.to}`;
    bundles.set(key, [...bundles.get(key) ?? [], arrow]);
  }
  const all = [...bundles.values()].map((arrows) => {
    const [from, to] = [boxOf.get(arrows[0]!.from)!, boxOf.get(arrows[0]!.to!)!];
    // To the one just below it without anything between: straight down.
    const isStraight = to.y === from.y + from.height + gap && from.x === to.x;
    return { arrows, from, to, isStraight };
  });
  /** Ends at the right side of a box are spread over its height, so that no two lines run on each other there. */
  const ends = new Map<Box, { readonly key: unknown; readonly towards: number }[]>();
  const bent = all.filter(({ isStraight }) => !isStraight);
  const middle = (box: Box): number => box.y + (box.state.isOuter ? headHeight : box.height) / 2;
  for (const one of bent) {
    for (const [box, other] of [[one.from, one.to], [one.to, one.from]] as const) {
      ends.set(box, [...ends.get(box) ?? [], { key: one, towards: middle(other) }]);
    }
  }
  const portOf = (box: Box, key: unknown): number => {
    const those = ends.get(box)!.toSorted((a, b) => a.towards - b.towards);
    const height = box.state.isOuter && box.state.path !== ""
      ? box.height - 8
      : box.state.isOuter
      ? headHeight
      : box.height;
    return box.y + 4 + (height - 8) * (those.findIndex((one) => one.key === key) + 0.5) / those.length;
  };
  const lanes: [top: number, bottom: number][][] = [];
  const laneOf = (top: number, bottom: number): number => {
    const free = lanes.findIndex((taken) => taken.every(([a, b]) => bottom < a - 2 || top > b + 2));
    const lane = free < 0 ? lanes.push([]) - 1 : free;
    lanes[lane]!.push([top, bottom]);
    return lane;
  };
  const laneX = (lane: number): number => right + 16 + lane * laneWidth;
  const bentWays = bent.map((one) => ({ ...one, y1: portOf(one.from, one), y2: portOf(one.to, one) }))
    .sort((a, b) => Math.abs(a.y1 - a.y2) - Math.abs(b.y1 - b.y2))
    .map(({ arrows, from, to, y1, y2 }): Way => {
      const lane = laneX(laneOf(Math.min(y1, y2), Math.max(y1, y2)));
      const [x1, x2] = [from.x + from.width, to.x + to.width];
      const turn = Math.min(bow, Math.abs(y2 - y1) / 2) * Math.sign(y2 - y1);
      return {
        from: from.state.path,
        to: to.state.path,
        arrows,
        line: `M${x1} ${y1}H${lane - bow}Q${lane} ${y1} ${lane} ${y1 + turn}V${y2 - turn}Q${lane} ${y2} ${
          lane - bow
        } ${y2}H${x2 + 7}`,
        head: { x: x2 + 1, y: y2, to: "left" },
        text: { x: lane + 6, y: (y1 + y2) / 2 + 4 },
      };
    });
  const straightWays = all.filter(({ isStraight }) => isStraight).map(({ arrows, from, to }): Way => {
    const x = from.x + 34;
    return {
      from: from.state.path,
      to: to.state.path,
      arrows,
      line: `M${x} ${from.y + from.height}V${to.y - 7}`,
      head: { x, y: to.y - 1, to: "down" },
      text: { x: x + 9, y: to.y - gap / 2 + 4 },
    };
  });
  return {
    width: laneX(lanes.length) + 4,
    height: bottom + 12,
    boxes,
    ways: [...straightWays, ...bentWays],
  };
}
