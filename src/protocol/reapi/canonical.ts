/**
 * The one encoder of what is hashed: REAPI's `Directory`, `Tree`, `Command`, `Action` and what they hold.
 *
 * Equal values give equal bytes whatever the order they were given in: fields in ascending order, default values left
 * out, names sorted by their UTF-8 bytes (remote_execution.proto, "Digest"). The decoders accept unknown fields, by
 * which the contract grows, and nothing else that is out of form; a name that they return is safe as a path segment.
 */
import type { ActionData, CommandData, Property } from "../../domain/command.ts";
import { type Digest, digestOfHash, hashOf, isDigest, sizeOf } from "../../domain/digest.ts";
import { Fault, type FaultCode } from "../../domain/fault.ts";
import type { Node } from "../../domain/node.ts";
import { bytesWire, compareUtf8, utf8Length, varintLength, varintWire, WireReader, WireWriter } from "./wire.ts";

/** Hash digits, their tag and their length. */
const hashFieldBytes = 1 + 1 + 64;

const digestLength = (digest: Digest): number => {
  const size = sizeOf(digest);
  return hashFieldBytes + (size === 0 ? 0 : 1 + varintLength(size));
};

export function writeDigest(writer: WireWriter, field: number, digest: Digest): void {
  const size = sizeOf(digest);
  writer.tag(field, bytesWire);
  writer.varint(digestLength(digest));
  writer.text(1, hashOf(digest), 64);
  if (size === 0) return;
  writer.tag(2, varintWire);
  writer.varint(size);
}

export function readDigest(bytes: Uint8Array, what: string, code: FaultCode): Digest {
  const reader: WireReader = new WireReader(bytes, what, code);
  let hashDigits = "";
  let size = 0;
  while (reader.next()) {
    if (reader.field === 1) hashDigits = reader.text();
    else if (reader.field === 2) size = reader.integer();
    else reader.skip();
  }
  const digest = digestOfHash(hashDigits, size);
  if (!isDigest(digest)) {
    reader.fail(`a digest must have 64 lower-case hex digits: current value is "${hashDigits.slice(0, 100)}"`);
  }
  return digest;
}

// Directory

/**
 * What a segment of a path cannot be: why, as the end of "must …", or undefined when it can be one.
 * Segments that pass are single, go nowhere up and can be made on any POSIX system.
 */
export function segmentFlaw(name: string): string | undefined {
  if (name === "") return "not be empty";
  if (name === "." || name === "..") return 'not be "." or ".."';
  if (name.includes("/")) return "have no slash";
  if (name.includes("\0")) return "have no NUL";
  return undefined;
}

const tagBytes = 1;
const field = (contentBytes: number): number => tagBytes + varintLength(contentBytes) + contentBytes;

function checkedLength(text: string, what: string, code: FaultCode): number {
  const length = utf8Length(text);
  if (length >= 0) return length;
  throw new Fault(code, `Cannot encode ${what} as it must be Unicode: current value is ${JSON.stringify(text)}`);
}

const kindField = { file: 1, directory: 2, symlink: 3 } as const;

/**
 * A `Directory` in canonical form.
 *
 * @param nodes in any order; not changed.
 * @throws {Fault} `TREE_INVALID` for a name that is no path segment, or that two nodes have.
 */
export function encodeDirectory(nodes: readonly Node[]): Uint8Array<ArrayBuffer> {
  const sorted = nodes.toSorted((a, b) => kindField[a.kind] - kindField[b.kind] || compareUtf8(a.name, b.name));
  refuseDoubles(sorted, "encode");
  const writer = new WireWriter(nodes.length * 128 + 16);
  for (const node of sorted) {
    const flaw = segmentFlaw(node.name);
    if (flaw !== undefined) {
      throw new Fault("TREE_INVALID", `Cannot encode a name as it must ${flaw}: current value is "${node.name}"`);
    }
    const nameBytes = checkedLength(node.name, "a name", "TREE_INVALID");
    writer.tag(kindField[node.kind], bytesWire);
    if (node.kind === "symlink") {
      const targetBytes = checkedLength(node.target, "a symlink's target", "TREE_INVALID");
      writer.varint(field(nameBytes) + (targetBytes === 0 ? 0 : field(targetBytes)));
      writer.text(1, node.name, nameBytes);
      if (targetBytes > 0) writer.text(2, node.target, targetBytes);
      continue;
    }
    const isExecutable = node.kind === "file" && node.executable;
    writer.varint(field(nameBytes) + field(digestLength(node.digest)) + (isExecutable ? 2 : 0));
    writer.text(1, node.name, nameBytes);
    writeDigest(writer, 2, node.digest);
    if (!isExecutable) continue;
    writer.tag(4, varintWire);
    writer.varint(1);
  }
  return writer.finish();
}

/**
 * The nodes of a `Directory`: files, directories, symlinks, each sorted.
 * Costs memory in proportion to the bytes, which the caller bounds.
 *
 * @throws {Fault} `TREE_INVALID` for bytes that are no Directory in canonical order, `PATH_INVALID` for a name that is
 * no path segment.
 */
export function decodeDirectory(bytes: Uint8Array): Node[] {
  const reader: WireReader = new WireReader(bytes, "a Directory", "TREE_INVALID");
  const nodes: Node[] = [];
  while (reader.next()) {
    if (reader.field === kindField.file) nodes.push(readNode("file", reader.bytes()));
    else if (reader.field === kindField.directory) nodes.push(readNode("directory", reader.bytes()));
    else if (reader.field === kindField.symlink) nodes.push(readNode("symlink", reader.bytes()));
    else reader.skip();
  }
  // Lists may be interleaved on the wire, but each must be in order by itself.
  const last = { file: "", directory: "", symlink: "" };
  for (const node of nodes) {
    if (compareUtf8(last[node.kind], node.name) >= 0) {
      reader.fail(`its names must be sorted and single: "${node.name}" follows "${last[node.kind]}"`);
    }
    last[node.kind] = node.name;
  }
  refuseDoubles(nodes, "read");
  return nodes.sort((a, b) => kindField[a.kind] - kindField[b.kind]);
}

function readNode(kind: Node["kind"], bytes: Uint8Array): Node {
  const reader: WireReader = new WireReader(bytes, `a ${kind} of a Directory`, "TREE_INVALID");
  let name = "";
  let target = "";
  let digest: Digest | undefined;
  let executable = false;
  while (reader.next()) {
    if (reader.field === 1) name = reader.text();
    else if (reader.field === 2 && kind === "symlink") target = reader.text();
    else if (reader.field === 2) digest = readDigest(reader.bytes(), `the digest of a ${kind}`, "TREE_INVALID");
    else if (reader.field === 4 && kind === "file") executable = reader.bool();
    else reader.skip();
  }
  const flaw = segmentFlaw(name);
  if (flaw !== undefined) {
    throw new Fault("PATH_INVALID", `Cannot read a ${kind} as its name must ${flaw}: current value is "${name}"`);
  }
  if (kind === "symlink") {
    if (target === "" || target.includes("\0")) reader.fail(`the target of "${name}" must not be empty or have a NUL`);
    return { kind, name, target };
  }
  if (digest === undefined) reader.fail(`"${name}" must have a digest: current value is none`);
  return kind === "file" ? { kind, name, digest, executable } : { kind, name, digest };
}

function refuseDoubles(nodes: readonly Node[], doing: string): void {
  const names = new Set<string>();
  for (const { name } of nodes) {
    if (names.has(name)) {
      throw new Fault(
        "TREE_INVALID",
        `Cannot ${doing} a Directory as its names must be single: "${name}" is there twice`,
      );
    }
    names.add(name);
  }
}

// Tree

/**
 * A `Tree` of directories that are encoded already: the root, then every other one once.
 * With parents before children it is what OutputDirectory calls topologically sorted.
 */
export function encodeTree(root: Uint8Array, children: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const writer = new WireWriter(children.reduce((sum, { length }) => sum + length + 8, root.length + 8));
  writer.bytes(1, root);
  for (const child of children) writer.bytes(2, child);
  return writer.finish();
}

/**
 * The directories of a `Tree`, as views of the given bytes; each is for {@link decodeDirectory}.
 *
 * @throws {Fault} `TREE_INVALID` for bytes that are no Tree.
 */
export function decodeTree(bytes: Uint8Array): { readonly root: Uint8Array; readonly children: readonly Uint8Array[] } {
  const reader: WireReader = new WireReader(bytes, "a Tree", "TREE_INVALID");
  let root: Uint8Array = new Uint8Array(0);
  const children: Uint8Array[] = [];
  while (reader.next()) {
    if (reader.field === 1) root = reader.bytes();
    else if (reader.field === 2) children.push(reader.bytes());
    else reader.skip();
  }
  return { root, children };
}

// Command and Action

const invalid = "REQUEST_INVALID";

function writeText(writer: WireWriter, number: number, text: string, what: string): void {
  writer.text(number, text, checkedLength(text, what, invalid));
}

/** `Platform.Property` and `Command.EnvironmentVariable` are alike: name 1, value 2. */
function writeProperty(writer: WireWriter, number: number, { name, value }: Property, what: string): void {
  const nameBytes = checkedLength(name, what, invalid);
  const valueBytes = checkedLength(value, what, invalid);
  writer.tag(number, bytesWire);
  writer.varint((nameBytes === 0 ? 0 : field(nameBytes)) + (valueBytes === 0 ? 0 : field(valueBytes)));
  if (nameBytes > 0) writer.text(1, name, nameBytes);
  if (valueBytes > 0) writer.text(2, value, valueBytes);
}

function readProperty(bytes: Uint8Array, what: string): Property {
  const reader: WireReader = new WireReader(bytes, what, invalid);
  let name = "";
  let value = "";
  while (reader.next()) {
    if (reader.field === 1) name = reader.text();
    else if (reader.field === 2) value = reader.text();
    else reader.skip();
  }
  return { name, value };
}

/** A `Platform`: sorted by name, then value; the same pair twice is one. Empty bytes for no properties. */
export function encodePlatform(properties: readonly Property[]): Uint8Array<ArrayBuffer> {
  const writer = new WireWriter();
  const sorted = properties.toSorted((a, b) => compareUtf8(a.name, b.name) || compareUtf8(a.value, b.value));
  let last: Property | undefined;
  for (const property of sorted) {
    if (last?.name === property.name && last.value === property.value) continue;
    writeProperty(writer, 1, property, "a platform property");
    last = property;
  }
  return writer.finish();
}

/** @throws {Fault} `REQUEST_INVALID` for bytes that are no Platform. */
export function decodePlatform(bytes: Uint8Array): Property[] {
  const reader: WireReader = new WireReader(bytes, "a Platform", invalid);
  const properties: Property[] = [];
  while (reader.next()) {
    if (reader.field === 1) properties.push(readProperty(reader.bytes(), "a platform property"));
    else reader.skip();
  }
  return properties;
}

const sortedSet = (texts: readonly string[]): string[] => [...new Set(texts)].sort(compareUtf8);

/**
 * A `Command`: environment sorted by name, outputs sorted and single.
 *
 * @throws {Fault} `REQUEST_INVALID` for text that has half a surrogate pair.
 */
export function encodeCommand(command: CommandData): Uint8Array<ArrayBuffer> {
  const writer = new WireWriter();
  for (const argument of command.argv) writeText(writer, 1, argument, "an argument");
  for (const name of Object.keys(command.env).sort(compareUtf8)) {
    writeProperty(writer, 2, { name, value: command.env[name] ?? "" }, "an environment variable");
  }
  for (const path of sortedSet(command.outputFiles ?? [])) writeText(writer, 3, path, "an output path");
  for (const path of sortedSet(command.outputDirectories ?? [])) writeText(writer, 4, path, "an output path");
  if (command.platform.length > 0) writer.bytes(5, encodePlatform(command.platform));
  if (command.workingDirectory !== "") writeText(writer, 6, command.workingDirectory, "the working directory");
  for (const path of sortedSet(command.outputs)) writeText(writer, 7, path, "an output path");
  if (command.directoryFormat !== undefined) {
    writer.tag(9, varintWire);
    writer.varint(command.directoryFormat === "directory" ? 1 : 2);
  }
  return writer.finish();
}

/**
 * What a `Command` says, its lists as they came. A variable that is there twice has its last value.
 *
 * @throws {Fault} `REQUEST_INVALID` for bytes that are no Command.
 */
export function decodeCommand(bytes: Uint8Array): CommandData {
  const reader: WireReader = new WireReader(bytes, "a Command", invalid);
  const argv: string[] = [];
  const env: [string, string][] = [];
  const outputFiles: string[] = [];
  const outputDirectories: string[] = [];
  const outputs: string[] = [];
  let platform: readonly Property[] = [];
  let workingDirectory = "";
  let format = 0;
  while (reader.next()) {
    if (reader.field === 1) argv.push(reader.text());
    else if (reader.field === 2) {
      const { name, value } = readProperty(reader.bytes(), "an environment variable");
      env.push([name, value]);
    } else if (reader.field === 3) outputFiles.push(reader.text());
    else if (reader.field === 4) outputDirectories.push(reader.text());
    else if (reader.field === 5) platform = decodePlatform(reader.bytes());
    else if (reader.field === 6) workingDirectory = reader.text();
    else if (reader.field === 7) outputs.push(reader.text());
    else if (reader.field === 9) format = reader.integer(); // others than these two are a Tree's, as the API has it
    else if (reader.field === 8) reader.fail("no properties of outputs are kept here: it asks for some");
    else reader.skip();
  }
  return {
    argv,
    env: Object.fromEntries(env), // defines "__proto__" as a name like any other
    outputs,
    ...(outputFiles.length > 0 ? { outputFiles } : {}),
    ...(outputDirectories.length > 0 ? { outputDirectories } : {}),
    ...(format === 1 ? { directoryFormat: "directory" } : format === 2 ? { directoryFormat: "both" } : {}),
    platform,
    workingDirectory,
  };
}

/**
 * An `Action`.
 *
 * @throws {Fault} `REQUEST_INVALID` for a time-out that is not whole milliseconds from 0 on.
 */
export function encodeAction(action: ActionData): Uint8Array<ArrayBuffer> {
  const writer = new WireWriter();
  writeDigest(writer, 1, action.command);
  writeDigest(writer, 2, action.inputRoot);
  if (action.timeoutMs !== undefined) writer.bytes(6, encodeDuration(action.timeoutMs));
  if (action.doNotCache) {
    writer.tag(7, varintWire);
    writer.varint(1);
  }
  if (action.salt !== undefined && action.salt.length > 0) writer.bytes(9, action.salt);
  if (action.platform.length > 0) writer.bytes(10, encodePlatform(action.platform));
  return writer.finish();
}

/** @throws {Fault} `REQUEST_INVALID` for bytes that are no Action, or one without its two digests. */
export function decodeAction(bytes: Uint8Array): ActionData {
  const reader: WireReader = new WireReader(bytes, "an Action", invalid);
  let command: Digest | undefined;
  let inputRoot: Digest | undefined;
  let timeoutMs: number | undefined;
  let doNotCache = false;
  let salt: Uint8Array | undefined;
  let platform: readonly Property[] = [];
  while (reader.next()) {
    if (reader.field === 1) command = readDigest(reader.bytes(), "a command digest", invalid);
    else if (reader.field === 2) inputRoot = readDigest(reader.bytes(), "an input root digest", invalid);
    else if (reader.field === 6) timeoutMs = decodeDuration(reader.bytes());
    else if (reader.field === 7) doNotCache = reader.bool();
    else if (reader.field === 9) salt = reader.bytes().slice();
    else if (reader.field === 10) platform = decodePlatform(reader.bytes());
    else reader.skip();
  }
  if (command === undefined) reader.fail("it must have a command digest: current value is none");
  if (inputRoot === undefined) reader.fail("it must have an input root digest: current value is none");
  return {
    command,
    inputRoot,
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
    doNotCache,
    ...(salt === undefined || salt.length === 0 ? {} : { salt: new Uint8Array(salt) }),
    platform,
  };
}

/** google.protobuf.Duration: seconds 1, nanos 2. */
function encodeDuration(ms: number): Uint8Array<ArrayBuffer> {
  if (!Number.isSafeInteger(ms) || ms < 0) {
    throw new Fault(invalid, `Cannot encode a time-out as it must be whole ms from 0 on: current value is ${ms}`);
  }
  const writer = new WireWriter(32);
  const seconds = Math.floor(ms / 1000);
  const nanos = (ms % 1000) * 1e6;
  if (seconds > 0) {
    writer.tag(1, varintWire);
    writer.varint(seconds);
  }
  if (nanos > 0) {
    writer.tag(2, varintWire);
    writer.varint(nanos);
  }
  return writer.finish();
}

/** In whole ms, rounded up so that a time-out never becomes shorter, or none, than was asked. */
function decodeDuration(bytes: Uint8Array): number {
  const reader: WireReader = new WireReader(bytes, "a time-out", invalid);
  let seconds = 0;
  let nanos = 0;
  while (reader.next()) {
    if (reader.field === 1) seconds = reader.integer();
    else if (reader.field === 2) nanos = reader.integer();
    else reader.skip();
  }
  const ms = seconds * 1000 + Math.ceil(nanos / 1e6);
  if (nanos >= 1e9 || !Number.isSafeInteger(ms)) reader.fail("it must be a duration: current value is out of range");
  return ms;
}
