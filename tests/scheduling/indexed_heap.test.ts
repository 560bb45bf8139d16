import * as fc from "fast-check";
import { expect, test } from "vitest";
import { type HeapMember, IndexedHeap } from "../../src/scheduling/indexed_heap.ts";

interface Member extends HeapMember {
  key: number;
}

test("the least is first, whatever came, went and changed its key", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(15), fc.option(fc.nat(50))), { maxLength: 200, size: "max" }), (moves) => {
      const heap = new IndexedHeap<Member>((a, b) => a.key < b.key);
      const members = Array.from({ length: 16 }, (): Member => ({ heapAt: -1, key: 0 }));
      const inside = new Set<Member>();
      for (const [at, key] of moves) {
        const member = members[at]!;
        if (key === null) {
          heap.remove(member);
          inside.delete(member);
        } else {
          member.key = key;
          heap.put(member);
          inside.add(member);
        }
        expect(heap.size).toBe(inside.size);
        expect(heap.peek()?.key).toBe(inside.size === 0 ? undefined : Math.min(...[...inside].map(({ key }) => key)));
        expect(new Set(heap.members)).toEqual(inside);
        for (const [place, { heapAt }] of heap.members.entries()) expect(heapAt).toBe(place);
      }
    }),
    { numRuns: 200 },
  );
});
