/** A drawing of what depends on what, in columns: whoever needs another stands to the right of it. Pure. */
export interface Layers {
  readonly width: number;
  readonly height: number;
  readonly nodes: readonly { readonly id: string; readonly layer: number; readonly x: number; readonly y: number }[];
  readonly edges: readonly { readonly from: string; readonly to: string; readonly line: string }[];
}

export interface Sizes {
  readonly nodeWidth: number;
  readonly nodeHeight: number;
  /** Between two columns, and between two of one column. */
  readonly gapX: number;
  readonly gapY: number;
}

export interface Edge {
  /** What is needed. */
  readonly from: string;
  /** Who needs it. */
  readonly to: string;
}

const sweeps = 4;
const laneHeight = 6;
const lanesMax = 3_000;

/** How many edges are between a node and those that need nothing; one in a circle stands where it was first come upon. */
export function depths(ids: readonly string[], edges: readonly Edge[]): ReadonlyMap<string, number> {
  const needs = new Map<string, string[]>(ids.map((id) => [id, []]));
  for (const { from, to } of edges) if (needs.has(from) && from !== to) needs.get(to)?.push(from);
  const found = new Map<string, number>();
  // By hand instead of by recursion: a chain may be as long as a job.
  for (const first of ids) {
    const path: { readonly id: string; place: number; deepest: number }[] = [{ id: first, place: 0, deepest: -1 }];
    const onPath = new Set([first]);
    while (path.length > 0) {
      const top = path.at(-1)!;
      const needed = found.has(top.id) ? undefined : needs.get(top.id)![top.place++];
      if (needed === undefined) {
        const depth = found.get(top.id) ?? top.deepest + 1;
        found.set(top.id, depth);
        onPath.delete(top.id);
        path.pop();
        const above = path.at(-1);
        if (above !== undefined) above.deepest = Math.max(above.deepest, depth);
      } else if (!onPath.has(needed)) {
        path.push({ id: needed, place: 0, deepest: -1 });
        onPath.add(needed);
      }
    }
  }
  return found;
}

/** Where a line passes a column that neither of its ends stands in. */
const isLane = (id: string): boolean => id.startsWith(laneMark);
const laneMark = "\0";

/** @param ids each once, in the order in which they stand where nothing else says; edges of others are left out. */
export function layered(
  ids: readonly string[],
  edges: readonly Edge[],
  { nodeWidth, nodeHeight, gapX, gapY }: Sizes,
): Layers {
  const depth = depths(ids, edges);
  const among = edges.filter(({ from, to }) => depth.has(from) && depth.has(to) && from !== to);
  const columns: string[][] = Array.from({ length: Math.max(0, ...depth.values()) + 1 }, () => []);
  for (const id of ids) columns[depth.get(id)!]!.push(id);
  // A line over several columns has a place of its own in each, so that it runs on no node. Of very many there would be
  // more lanes than nodes: then they are straight.
  const steps = among.reduce((sum, { from, to }) => sum + Math.max(0, depth.get(to)! - depth.get(from)! - 1), 0);
  const hasLanes = steps <= lanesMax;
  const routes = among.map(({ from, to }, place) => {
    const lanes: string[] = [];
    for (let column = depth.get(from)! + 1; hasLanes && column < depth.get(to)!; column++) {
      const lane = `${laneMark}${place} ${column}`;
      lanes.push(lane);
      columns[column]!.push(lane);
    }
    return [from, ...lanes, to];
  });
  const [before, after] = [new Map<string, string[]>(), new Map<string, string[]>()];
  const tie = (ties: Map<string, string[]>, id: string, other: string): void => {
    const those = ties.get(id);
    if (those === undefined) ties.set(id, [other]);
    else those.push(other);
  };
  for (const route of routes) {
    for (const [place, to] of route.slice(1).entries()) {
      tie(before, to, route[place]!);
      tie(after, route[place]!, to);
    }
  }
  const rank = new Map<string, number>();
  const settle = (column: readonly string[]): void =>
    column.forEach((id, place) => void rank.set(id, (place + 0.5) / column.length));
  columns.forEach(settle);
  // Each stands as near as can be to the middle of those that it is tied to, once from the left and once from the right.
  for (let sweep = 0; sweep < sweeps; sweep++) {
    const [order, ties] = sweep % 2 === 0 ? [columns, before] : [columns.toReversed(), after];
    for (const column of order) {
      const middle = new Map(column.map((id) => {
        const others = ties.get(id) ?? [];
        const sum = others.reduce((sum, other) => sum + rank.get(other)!, 0);
        return [id, others.length === 0 ? rank.get(id)! : sum / others.length];
      }));
      column.sort((a, b) => middle.get(a)! - middle.get(b)!);
      settle(column);
    }
  }
  const heightOf = (id: string): number => (isLane(id) ? laneHeight : nodeHeight) + gapY;
  const heights = columns.map((column) => column.reduce((sum, id) => sum + heightOf(id), 0));
  const tallest = Math.max(nodeHeight + gapY, ...heights);
  const at = new Map<string, { readonly x: number; readonly y: number }>();
  for (const [layer, column] of columns.entries()) {
    let y = gapY + (tallest - heights[layer]!) / 2;
    for (const id of column) {
      at.set(id, { x: gapY + layer * (nodeWidth + gapX), y });
      y += heightOf(id);
    }
  }
  return {
    width: columns.length * (nodeWidth + gapX) - gapX + 2 * gapY,
    height: tallest + gapY,
    nodes: ids.map((id) => ({ id, layer: depth.get(id)!, ...at.get(id)! })),
    edges: among.map(({ from, to }, place) => {
      const middleOf = (id: string): number => at.get(id)!.y + (isLane(id) ? laneHeight : nodeHeight) / 2;
      const route = routes[place]!;
      let [x, y] = [at.get(from)!.x + nodeWidth, middleOf(from)];
      let line = `M${x} ${y}`;
      for (const id of route.slice(1)) {
        const [nextX, nextY] = [at.get(id)!.x, middleOf(id)];
        const bend = Math.max(gapX / 2, (nextX - x) / 2);
        line += `C${x + bend} ${y} ${nextX - bend} ${nextY} ${nextX} ${nextY}`;
        [x, y] = [nextX, nextY];
        if (isLane(id)) line += `H${x += nodeWidth}`;
      }
      return { from, to, line };
    }),
  };
}
