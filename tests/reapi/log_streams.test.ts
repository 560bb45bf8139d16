import { Buffer } from "node:buffer";
import { status } from "@grpc/grpc-js";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Fault } from "../../src/domain/fault.ts";
import { methods } from "../../src/protocol/reapi/services.ts";
import { manualClock } from "../transport/manual_clock.ts";
import { codeOf, type Rig, startRig } from "./rig.ts";

let rig: Rig;
let clock: ReturnType<typeof manualClock>;
let isFull: boolean;
beforeEach(async () => {
  clock = manualClock();
  isFull = false;
  rig = await startRig({
    clock,
    needSpace(what) {
      if (isFull) throw new Fault("NO_SPACE", `Cannot take ${what}`);
    },
  });
});
afterEach(() => rig.close());

const create = (parent = "a/b") => rig.unary(methods.createLogStream, { parent });
const write = (resourceName: string, text: string, writeOffset: number, finishWrite = false) =>
  rig.upload([{ resourceName, writeOffset, data: Buffer.from(text), finishWrite }]);
const read = async (resourceName: string, more: object = {}): Promise<string> =>
  Buffer.concat((await rig.stream(methods.read, { resourceName, ...more })).map(({ data }) => data)).toString();

describe("X-M5: a log stream", () => {
  test("is read while it is written, and ends when it is whole", async () => {
    const { name, writeResourceName } = await create();
    expect(name).toMatch(/^a\/b\/logstreams\/[0-9a-f]{32}$/);
    const reader = rig.open(methods.read, { resourceName: name });
    expect(await write(writeResourceName, "one ", 0)).toBe(4);
    expect(Buffer.from((await reader.next()).value!.data).toString()).toBe("one ");
    expect(await rig.unary(methods.queryWriteStatus, { resourceName: writeResourceName })).toEqual({
      committedSize: 4,
      complete: false,
    });
    expect(
      await rig.upload([{ resourceName: writeResourceName, writeOffset: 4, data: Buffer.from("two") }, {
        writeOffset: 7,
        finishWrite: true,
      }]),
    ).toBe(7);
    expect(Buffer.from((await reader.next()).value!.data).toString()).toBe("two");
    expect((await reader.next()).done).toBe(true);
    expect(await read(name, { readOffset: 2, readLimit: 3 })).toBe("e t");
    expect(await read(name, { readOffset: 7 })).toBe("");
    expect(await rig.unary(methods.queryWriteStatus, { resourceName: writeResourceName })).toEqual({
      committedSize: 7,
      complete: true,
    });
  });
  test("each of its names is for one use, in its instance; others are NOT_FOUND", async () => {
    const { name, writeResourceName } = await create();
    expect(await codeOf(read(writeResourceName))).toBe(status.INVALID_ARGUMENT);
    expect(await codeOf(write(name, "x", 0))).toBe(status.INVALID_ARGUMENT);
    expect(await codeOf(write(`${name}/another`, "x", 0))).toBe(status.NOT_FOUND);
    expect(await codeOf(read(name.replace("a/b/", "a/c/")))).toBe(status.NOT_FOUND);
    expect(await codeOf(read(name.replace("a/b/", "")))).toBe(status.NOT_FOUND);
    expect(await codeOf(read("logstreams/none"))).toBe(status.NOT_FOUND);
    expect(await codeOf(create("blobs"))).toBe(status.INVALID_ARGUMENT);
  });
  test("grows at its end alone, and not behind it; offsets lie within it", async () => {
    const { name, writeResourceName } = await create("");
    await write(writeResourceName, "abc", 0);
    for (const offset of [0, 2, 4, -1]) {
      expect(await codeOf(write(writeResourceName, "x", offset))).toBe(status.INVALID_ARGUMENT);
    }
    const other = [{ resourceName: writeResourceName, writeOffset: 3 }, { resourceName: "other", writeOffset: 3 }];
    expect(await codeOf(rig.upload(other))).toBe(status.INVALID_ARGUMENT);
    for (const range of [{ readOffset: 4 }, { readOffset: -1 }, { readLimit: -1 }]) {
      expect(await codeOf(read(name, range))).toBe(status.OUT_OF_RANGE);
    }
    await write(writeResourceName, "", 3, true);
    expect(await codeOf(write(writeResourceName, "", 3, true))).toBe(status.INVALID_ARGUMENT);
    expect(await read(name)).toBe("abc");
  });
  test("is there after a restart, whole or to be gone on with", async () => {
    const [one, two] = [await create(), await create()];
    await write(one.writeResourceName, "whole", 0, true);
    await write(two.writeResourceName, "begun", 0);
    await rig.restart();
    expect(await read(one.name)).toBe("whole");
    await write(two.writeResourceName, " and ended", 5, true);
    expect(await read(two.name)).toBe("begun and ended");
    expect(await codeOf(write(one.writeResourceName, "x", 5))).toBe(status.INVALID_ARGUMENT);
  });
  test(
    "has a bound, as their number has; without room there is none; a day after its last byte it is forgotten",
    async () => {
      const { name, writeResourceName } = await create();
      const large = Buffer.alloc(8 * 1024 * 1024);
      const messages = Array.from({ length: 9 }, (_, place) => ({
        resourceName: writeResourceName,
        writeOffset: place * large.length,
        data: large,
      }));
      expect(await codeOf(rig.upload(messages))).toBe(status.RESOURCE_EXHAUSTED);
      for (let made = 1; made < 1_000; made++) await create();
      expect(await codeOf(create())).toBe(status.RESOURCE_EXHAUSTED);
      const reader = codeOf(rig.stream(methods.read, { resourceName: name, readOffset: 8 * large.length }));
      await rig.unary(methods.getCapabilities, {}); // the reader is there then
      await clock.advance(24 * 3_600_000);
      isFull = true;
      expect(await codeOf(create())).toBe(status.RESOURCE_EXHAUSTED);
      isFull = false;
      await create();
      expect(await reader).toBe(status.NOT_FOUND);
      expect(await codeOf(write(writeResourceName, "x", 0))).toBe(status.NOT_FOUND);
    },
    30_000,
  );
});
