import * as fc from "fast-check";
import { expect, test } from "vitest";
import { type Room, Rooms } from "../../src/scheduling/rooms.ts";

test("a place with enough room is found whenever there is one; without needs it is the first with the most free slots", () => {
  const room = fc.record<Room>({
    slots: fc.nat(3),
    cpuMillis: fc.nat(4),
    memoryBytes: fc.constantFrom(0, 2, 5, Infinity),
  });
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(40), room), { maxLength: 100, size: "max" }),
      fc.nat(5),
      fc.nat(6),
      (changes, cpuMillis, memoryBytes) => {
        const rooms = new Rooms();
        const all = new Map<number, Room>();
        for (const [place, one] of changes) {
          const before = rooms.most;
          const changed = rooms.set(place, one.slots, one.cpuMillis, one.memoryBytes);
          expect(changed).toBe(JSON.stringify(rooms.most) !== JSON.stringify(before));
          all.set(place, one);
          const free = [...all.entries()].filter(([, { slots }]) => slots > 0);
          const enough = free.filter(([, has]) => has.cpuMillis >= cpuMillis && has.memoryBytes >= memoryBytes);
          const found = rooms.find(cpuMillis, memoryBytes);
          if (enough.length === 0) expect(found).toBe(-1);
          else expect(enough.map(([place]) => place)).toContain(found);
          const most = Math.max(0, ...free.map(([, { slots }]) => slots));
          const freest = free.filter(([, { slots }]) => slots === most).map(([place]) => place);
          expect(rooms.find(0, 0)).toBe(most === 0 ? -1 : Math.min(...freest));
        }
      },
    ),
    { numRuns: 200 },
  );
});
