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
  /** Of each the others: those that it needs, or those that need it. */
  const neighbours = (isNeeded: boolean): Map<string, string[]> => {
    const all = new Map<string, string[]>();
    for (const edge of among) {
      const [id, other] = isNeeded ? [edge.to, edge.from] : [edge.from, edge.to];
      const those = all.get(id);
      if (those === undefined) all.set(id, [other]);
      else those.push(other);
    }
    return all;
  };
  const [before, after] = [neighbours(true), neighbours(false)];
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
  const tallest = Math.max(1, ...columns.map((column) => column.length));
  const [stepX, stepY] = [nodeWidth + gapX, nodeHeight + gapY];
  const at = new Map<string, { readonly x: number; readonly y: number }>();
  const nodes = columns.flatMap((column, layer) =>
    column.map((id, place) => {
      const spot = { x: gapY + layer * stepX, y: gapY + (place + (tallest - column.length) / 2) * stepY };
      at.set(id, spot);
      return { id, layer, ...spot };
    })
  );
  return {
    width: columns.length * stepX - gapX + 2 * gapY,
    height: tallest * stepY + gapY,
    nodes,
    edges: among.map(({ from, to }) => {
      const [a, b] = [at.get(from)!, at.get(to)!];
      const [x1, y1, x2, y2] = [a.x + nodeWidth, a.y + nodeHeight / 2, b.x, b.y + nodeHeight / 2];
      const bend = Math.max(gapX / 2, (x2 - x1) / 2);
      return { from, to, line: `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}` };
    }),
  };
}
