import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { ActionData, CommandData } from "../../../src/domain/command.ts";
import { type Digest, digestOfHash, emptyDigest } from "../../../src/domain/digest.ts";
import type { FaultCode } from "../../../src/domain/fault.ts";
import type { Node } from "../../../src/domain/node.ts";
import {
  decodeAction,
  decodeCommand,
  decodeDirectory,
  decodePlatform,
  decodeTree,
  encodeAction,
  encodeCommand,
  encodeDirectory,
  encodePlatform,
  encodeTree,
} from "../../../src/protocol/reapi/canonical.ts";
import { compareUtf8 } from "../../../src/protocol/reapi/wire.ts";

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const bytesOf = (...parts: (string | number[])[]): Uint8Array =>
  Buffer.concat(parts.map((part) => Buffer.from(part as string)));

const anyDigest: fc.Arbitrary<Digest> = fc.tuple(
  fc.stringMatching(/^[0-9a-f]{64}$/),
  fc.oneof(fc.nat(), fc.constantFrom(0, 127, 128, 2 ** 32, Number.MAX_SAFE_INTEGER)),
).map(([hash, size]) => digestOfHash(hash, size));
const anyText = fc.string({ unit: "binary" });
const anyName = fc.oneof(fc.string({ unit: "grapheme", minLength: 1 }), fc.constantFrom("a", "é", "\uffff", "😀", ".a"))
  .filter((name) => !/^\.\.?$|[/\0]|\p{Cs}/u.test(name));
const anyNode: fc.Arbitrary<Node> = fc.oneof(
  fc.record({ kind: fc.constant("file" as const), name: anyName, digest: anyDigest, executable: fc.boolean() }),
  fc.record({ kind: fc.constant("directory" as const), name: anyName, digest: anyDigest }),
  fc.record({ kind: fc.constant("symlink" as const), name: anyName, target: anyName }),
);
const anyNodes = fc.uniqueArray(anyNode, { selector: ({ name }) => name, maxLength: 30 });
const anyPlatform = fc.uniqueArray(fc.record({ name: anyText, value: anyText }), {
  selector: ({ name, value }) => JSON.stringify([name, value]),
});
const anyPaths = fc.uniqueArray(anyText);
const anyCommand: fc.Arbitrary<CommandData> = fc.record({
  argv: fc.array(anyText),
  env: fc.uniqueArray(fc.tuple(fc.oneof(anyText, fc.constant("__proto__")), anyText), { selector: ([name]) => name })
    .map(Object.fromEntries),
  outputs: anyPaths,
  platform: anyPlatform,
  workingDirectory: anyText,
});
const anyAction: fc.Arbitrary<ActionData> = fc.record({
  command: anyDigest,
  inputRoot: anyDigest,
  timeoutMs: fc.maxSafeNat(),
  doNotCache: fc.boolean(),
  salt: fc.uint8Array({ minLength: 1 }),
  platform: anyPlatform,
}, { requiredKeys: ["command", "inputRoot", "doNotCache", "platform"] });

const byName = (a: { readonly name: string }, b: { readonly name: string }): number =>
  Buffer.compare(Buffer.from(a.name), Buffer.from(b.name));
const byNameAndValue = (a: { name: string; value: string }, b: { name: string; value: string }): number =>
  byName(a, b) || Buffer.compare(Buffer.from(a.value), Buffer.from(b.value));
const inByteOrder = (texts: readonly string[]): string[] =>
  texts.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));

function expectFault(code: FaultCode, act: () => unknown): void {
  expect(act).toThrow(expect.objectContaining({ code }));
}

describe("compareUtf8()", () => {
  test("orders texts as their UTF-8 bytes are ordered", () => {
    fc.assert(fc.property(anyText, anyText, (a, b) => {
      expect(Math.sign(compareUtf8(a, b))).toBe(Buffer.compare(Buffer.from(a), Buffer.from(b)));
    }));
    expect(compareUtf8("\uffff", "😀")).toBeLessThan(0);
  });
});

describe("Directory", () => {
  test("N-1 O-5: defaults that another encoder has written are left out", () => {
    const digest = `${"a".repeat(64)}/0` as Digest;
    const hash = Buffer.from(digest.slice(0, 64));
    const sloppyDigest = Buffer.concat([Buffer.from([0x0a, 64]), hash, Buffer.from([0x10, 0])]);
    const sloppyFile = Buffer.concat([
      Buffer.from([0x0a, 1, 0x66, 0x12, sloppyDigest.length]),
      sloppyDigest,
      Buffer.from([0x20, 0]), // is_executable: false
    ]);
    const sloppy = Buffer.concat([Buffer.from([0x0a, sloppyFile.length]), sloppyFile]);
    const nodes = decodeDirectory(sloppy);
    expect(nodes).toEqual([{ kind: "file", name: "f", digest, executable: false }]);
    const canonical = encodeDirectory(nodes);
    expect(canonical.length).toBe(sloppy.length - 4);
    expect(decodeDirectory(canonical)).toEqual(nodes);
  });
  test("N-1: has the bytes that any protobuf encoder gives", () => {
    const bytes = encodeDirectory([
      { kind: "symlink", name: "s", target: "t" },
      { kind: "directory", name: "d", digest: emptyDigest },
      { kind: "file", name: "f", digest: digestOfHash("ab".repeat(32), 300), executable: true },
    ]);
    const empty = hex(Buffer.from(emptyDigest.slice(0, 64)));
    expect(hex(bytes)).toBe(
      `0a4c0a01661245` + `0a40${hex(Buffer.from("ab".repeat(32)))}10ac02` + `2001` + // a size of two bytes, executable
        `1247` + `0a0164` + `1242` + `0a40${empty}` + // a size of 0 is not written
        `1a06` + `0a0173` + `120174`,
    );
    expect(encodeDirectory([])).toHaveLength(0);
  });

  test("read after it was written is what was written, sorted", () => {
    fc.assert(fc.property(anyNodes, (nodes) => {
      const order = ["file", "directory", "symlink"];
      const sorted = nodes.toSorted((a, b) => order.indexOf(a.kind) - order.indexOf(b.kind) || byName(a, b));
      expect(decodeDirectory(encodeDirectory(nodes))).toEqual(sorted);
    }));
  });

  test("has the same bytes whatever the order of its nodes", () => {
    fc.assert(fc.property(
      anyNodes.chain((nodes) => fc.tuple(fc.constant(nodes), fc.shuffledSubarray(nodes, { minLength: nodes.length }))),
      ([nodes, shuffled]) => {
        expect(hex(encodeDirectory(shuffled))).toBe(hex(encodeDirectory(nodes)));
      },
    ));
  });

  test("from strangers gives nodes or a fault, whatever the bytes", () => {
    const anyMangled = fc.tuple(anyNodes, fc.nat(), fc.integer({ min: 0, max: 255 })).map(([nodes, place, byte]) => {
      const bytes = encodeDirectory(nodes);
      if (bytes.length > 0) bytes[place % bytes.length] = byte;
      return bytes;
    });
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 300 }), anyMangled), (bytes) => {
        try {
          for (const { name } of decodeDirectory(bytes)) expect(name).not.toMatch(/^\.{0,2}$|[/\0]/);
        } catch (error) {
          expect(["TREE_INVALID", "PATH_INVALID"]).toContain((error as { code: string }).code);
        }
      }),
      { numRuns: 1000 },
    );
  });

  test("accepts fields that it does not know, of every wire type", () => {
    const file: Node = { kind: "file", name: "f", digest: emptyDigest, executable: false };
    const unknown = bytesOf(
      [0x2a, 2, 0x0a, 0], // node_properties
      [0x30, 0xff, 1], // a varint
      [0x39, 1, 2, 3, 4, 5, 6, 7, 8], // fixed64
      [0x3d, 1, 2, 3, 4], // fixed32
    );
    expect(decodeDirectory(Buffer.concat([encodeDirectory([file]), unknown]))).toEqual([file]);
  });

  test.each(["", ".", "..", "a/b", "/", "a\0"])("refuses the name %j", (name) => {
    const nameBytes = bytesOf([0x0a, name.length], name);
    const symlink = bytesOf([0x1a, nameBytes.length + 3], [...nameBytes], [0x12, 1, 0x78]);
    expectFault("PATH_INVALID", () => decodeDirectory(symlink));
    expectFault("TREE_INVALID", () => encodeDirectory([{ kind: "symlink", name, target: "x" }]));
  });

  test("refuses names that are not sorted or not single, in one list or over two", () => {
    const link = (name: string): Uint8Array => encodeDirectory([{ kind: "symlink", name, target: "x" }]);
    const folder = encodeDirectory([{ kind: "directory", name: "a", digest: emptyDigest }]);
    expectFault("TREE_INVALID", () => decodeDirectory(Buffer.concat([link("b"), link("a")])));
    expectFault("TREE_INVALID", () => decodeDirectory(Buffer.concat([link("a"), link("a")])));
    expectFault("TREE_INVALID", () => decodeDirectory(Buffer.concat([folder, link("a")])));
    expect(decodeDirectory(Buffer.concat([link("a"), link("b"), folder.subarray(0, 0)]))).toHaveLength(2);
    expectFault("TREE_INVALID", () =>
      encodeDirectory([
        { kind: "symlink", name: "a", target: "x" },
        { kind: "directory", name: "a", digest: emptyDigest },
      ]));
  });

  test.each([
    ["a length beyond its end", [0x0a, 5, 1]],
    ["a varint without end", [0x28, 0xff]],
    ["a varint of 11 bytes", [0x28, ...Array(10).fill(0xff), 1]],
    ["field number 0", [0x02, 0]],
    ["a group", [0x33, 0x34]],
    ["a file that is a number", [0x08, 1]],
    ["a name that is not UTF-8", [0x1a, 6, 0x0a, 1, 0xff, 0x12, 1, 0x78]],
    ["a file without digest", [0x0a, 3, 0x0a, 1, 0x61]],
    ["a file with a short hash", [0x0a, 8, 0x0a, 1, 0x61, 0x12, 3, 0x0a, 1, 0x61]],
    ["a symlink without target", [0x1a, 3, 0x0a, 1, 0x61]],
  ])("refuses %s", (_, bytes) => expectFault("TREE_INVALID", () => decodeDirectory(Uint8Array.from(bytes))));

  test("cannot hold half a surrogate pair", () => {
    expectFault("TREE_INVALID", () => encodeDirectory([{ kind: "symlink", name: "\ud800", target: "x" }]));
  });

  test("keeps a byte order mark in a name", () => {
    const node: Node = { kind: "symlink", name: "\ufeffa", target: "\ufeff" };
    expect(decodeDirectory(encodeDirectory([node]))).toEqual([node]);
  });
});

describe("Tree", () => {
  test("gives back the very bytes of its directories", () => {
    fc.assert(fc.property(fc.array(anyNodes, { minLength: 1 }), (all) => {
      const [root, ...children] = all.map(encodeDirectory);
      const read = decodeTree(encodeTree(root!, children));
      expect(hex(read.root)).toBe(hex(root!));
      expect(read.children.map(hex)).toEqual(children.map(hex));
    }));
  });
});

describe("Platform", () => {
  test("is sorted by name, then value, with every pair once", () => {
    fc.assert(fc.property(anyPlatform, (properties) => {
      const sorted = properties.toSorted(byNameAndValue);
      expect(decodePlatform(encodePlatform([...properties, ...properties]))).toEqual(sorted);
    }));
  });
});

describe("Command", () => {
  test("read after it was written is what was written, its sets sorted", () => {
    fc.assert(fc.property(anyCommand, (command) => {
      expect(decodeCommand(encodeCommand(command))).toEqual({
        ...command,
        outputs: inByteOrder(command.outputs),
        platform: command.platform.toSorted(byNameAndValue),
      });
    }));
  });

  test("has the same bytes whatever the order of environment, outputs and platform", () => {
    fc.assert(fc.property(anyCommand, (command) => {
      const reversed = {
        ...command,
        env: Object.fromEntries(Object.entries(command.env).reverse()),
        outputs: [...command.outputs, ...command.outputs].reverse(),
        platform: command.platform.toReversed(),
      };
      expect(hex(encodeCommand(reversed))).toBe(hex(encodeCommand(command)));
    }));
  });

  test("has the fields of the contract", () => {
    const bytes = encodeCommand({
      argv: ["a", ""],
      env: { B: "", A: "1" },
      outputs: ["o"],
      outputFiles: ["f"],
      outputDirectories: ["d"],
      platform: [{ name: "os", value: "x" }],
      workingDirectory: "w",
    });
    expect(hex(bytes)).toBe(
      "0a0161" + "0a00" + "1206" + "0a0141" + "120131" + "1203" + "0a0142" + "1a0166" + "220164" +
        "2a09" + "0a07" + "0a026f73" + "120178" + "320177" + "3a016f",
    );
    expect(decodeCommand(bytes)).toMatchObject({
      outputFiles: ["f"],
      outputDirectories: ["d"],
      env: { A: "1", B: "" },
    });
  });

  test("refuses half a surrogate pair and bytes that are no Command", () => {
    const command = { argv: ["\udc00"], env: {}, outputs: [], platform: [], workingDirectory: "" };
    expectFault("REQUEST_INVALID", () => encodeCommand(command));
    expectFault("REQUEST_INVALID", () => decodeCommand(Uint8Array.of(0x0a, 1, 0xff)));
  });
});

describe("Action", () => {
  test("read after it was written is what was written", () => {
    fc.assert(fc.property(anyAction, (action) => {
      expect(decodeAction(encodeAction(action))).toEqual({
        ...action,
        platform: action.platform.toSorted(byNameAndValue),
      });
    }));
  });

  test("tells no time-out from a time-out of 0", () => {
    const action = { command: emptyDigest, inputRoot: emptyDigest, doNotCache: false, platform: [] };
    expect(decodeAction(encodeAction(action))).not.toHaveProperty("timeoutMs");
    expect(decodeAction(encodeAction({ ...action, timeoutMs: 0 }))).toHaveProperty("timeoutMs", 0);
  });

  test("writes milliseconds as seconds and nanos, and reads nanos as no shorter a time", () => {
    const action = { command: emptyDigest, inputRoot: emptyDigest, doNotCache: true, platform: [] };
    const bytes = encodeAction({ ...action, timeoutMs: 61_500 });
    expect(hex(bytes)).toContain("3208" + "083d" + "1080cab5ee01" + "3801");
    const finer = Buffer.concat([encodeAction(action), Uint8Array.of(0x32, 2, 0x10, 1)]);
    expect(decodeAction(finer).timeoutMs).toBe(1);
  });

  test("refuses what is no Action", () => {
    const whole = { command: emptyDigest, inputRoot: emptyDigest, doNotCache: false, platform: [] };
    expectFault("REQUEST_INVALID", () => decodeAction(new Uint8Array(0)));
    expectFault("REQUEST_INVALID", () => encodeAction({ ...whole, timeoutMs: 0.5 }));
    expectFault("REQUEST_INVALID", () => encodeAction({ ...whole, timeoutMs: -1 }));
    const negative = Buffer.concat([encodeAction(whole), Uint8Array.of(0x32, 11, 0x08, ...Array(9).fill(0xff), 1)]);
    expectFault("REQUEST_INVALID", () => decodeAction(negative));
  });
});

test("O-6: a Command says how its folders are to be told; an unknown way is a Tree's", () => {
  const command = { argv: ["a"], env: {}, outputs: ["d"], platform: [], workingDirectory: "" };
  for (const directoryFormat of ["directory", "both"] as const) {
    expect(decodeCommand(encodeCommand({ ...command, directoryFormat }))).toEqual({ ...command, directoryFormat });
  }
  const unknown = Buffer.concat([encodeCommand(command), Buffer.of(0x48, 7)]);
  expect(decodeCommand(unknown)).toEqual(command);
});
