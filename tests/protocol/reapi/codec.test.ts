import { expect, test } from "vitest";
import { ints, message, text } from "../../../src/protocol/reapi/codec.ts";
import { WireWriter } from "../../../src/protocol/reapi/wire.ts";

const list = message("a list", { numbers: ints(1), name: text(2) });

test("a list of numbers is read packed, one by one, and as both; each decoding has a list of its own", () => {
  const writer = new WireWriter();
  for (const value of [1, 2]) {
    writer.tag(1, 0);
    writer.varint(value);
  }
  writer.bytes(1, Uint8Array.of(3, 4));
  const bytes = writer.finish();
  for (const _again of [1, 2]) expect(list.decode(bytes).numbers).toEqual([1, 2, 3, 4]);
  expect(list.decode(new Uint8Array(0)).numbers).toEqual([]);
  expect(list.decode(list.encode({ numbers: [5, 6] })).numbers).toEqual([5, 6]);
});

test("a million numbers one by one cost what they are, and not what they are together with all before", () => {
  const bytes = new Uint8Array(2_000_000);
  for (let at = 0; at < bytes.length; at += 2) bytes.set([0x08, 1], at);
  expect(list.decode(bytes).numbers).toHaveLength(1_000_000);
});
