import * as fc from "fast-check";
import { expect, test } from "vitest";
import { machineRoom, roomOfEach } from "../../src/roles/local_room.ts";

test("workers of one machine share it: no byte is given away twice, and none has less than one processor of several", () => {
  expect(roomOfEach({ cpuMillis: 8_000, memoryBytes: 10 }, 4)).toEqual({ cpuMillis: 2_000, memoryBytes: 2 });
  expect(roomOfEach({ cpuMillis: 2_000, memoryBytes: 7 }, 4)).toEqual({ cpuMillis: 1_000, memoryBytes: 1 });
  expect(roomOfEach({ cpuMillis: 500, memoryBytes: 7 }, 1)).toEqual({ cpuMillis: 500, memoryBytes: 7 });
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 1_000 }),
      fc.integer({ min: 1, max: 1_000_000 }),
      fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }),
      (workers, cpuMillis, memoryBytes) => {
        const each = roomOfEach({ cpuMillis, memoryBytes }, workers);
        expect(each.memoryBytes * workers).toBeLessThanOrEqual(memoryBytes);
        expect(memoryBytes - each.memoryBytes * workers).toBeLessThan(workers);
        expect(each.cpuMillis).toBeGreaterThanOrEqual(Math.min(1_000, cpuMillis));
        if (each.cpuMillis > 1_000) expect(each.cpuMillis * workers).toBeLessThanOrEqual(cpuMillis);
      },
    ),
  );
});

test("this machine has processors and memory", () => {
  const { cpuMillis, memoryBytes } = machineRoom();
  expect(cpuMillis).toBeGreaterThanOrEqual(1_000);
  expect(memoryBytes).toBeGreaterThan(2 ** 20);
});
