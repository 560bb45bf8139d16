/**
 * REAPI's `ActionResult` as bytes and back. Equal results give equal bytes whatever the order of their outputs; the
 * decoder skips unknown fields and refuses what is out of form. Both cost memory in proportion to the bytes.
 */
import type {
  ActionResultData,
  AnyData,
  ExecutionMetadata,
  OutputDirectory,
  OutputFile,
  OutputSymlink,
  Timestamp,
} from "../../domain/action_result.ts";
import type { Digest } from "../../domain/digest.ts";
import { Fault } from "../../domain/fault.ts";
import { readDigest, writeDigest } from "./canonical.ts";
import { compareUtf8, utf8Length, varintWire, WireReader, WireWriter } from "./wire.ts";

const invalid = "REQUEST_INVALID";

const instants = [
  [2, "queuedAt"],
  [3, "workerStartedAt"],
  [4, "workerCompletedAt"],
  [5, "inputFetchStartedAt"],
  [6, "inputFetchCompletedAt"],
  [7, "executionStartedAt"],
  [8, "executionCompletedAt"],
  [9, "outputUploadStartedAt"],
  [10, "outputUploadCompletedAt"],
  [12, "virtualExecution"],
] as const;
const auxiliaryField = 11;

function writeText(writer: WireWriter, field: number, text: string, what: string): void {
  if (text === "") return;
  const length = utf8Length(text);
  if (length < 0) {
    throw new Fault(invalid, `Cannot encode ${what} as it must be Unicode: current value is ${JSON.stringify(text)}`);
  }
  writer.text(field, text, length);
}

function writeTrue(writer: WireWriter, field: number, value: boolean): void {
  if (!value) return;
  writer.tag(field, varintWire);
  writer.varint(1);
}

function writeNonEmpty(writer: WireWriter, field: number, bytes: Uint8Array | undefined): void {
  if (bytes !== undefined && bytes.length > 0) writer.bytes(field, bytes);
}

/** One message inside of another, by a writer of its own. */
function nested(writer: WireWriter, field: number, write: (inner: WireWriter) => void): void {
  const inner = new WireWriter(256);
  write(inner);
  writer.bytes(field, inner.finish());
}

const byPath = (a: { readonly path: string }, b: { readonly path: string }): number => compareUtf8(a.path, b.path);

/** @throws {Fault} `REQUEST_INVALID` for text that has half a surrogate pair or numbers out of range. */
export function encodeActionResult(result: ActionResultData): Uint8Array<ArrayBuffer> {
  const writer = new WireWriter();
  for (const file of result.outputFiles.toSorted(byPath)) {
    nested(writer, 2, (inner) => {
      writeText(inner, 1, file.path, "an output path");
      writeDigest(inner, 2, file.digest);
      writeTrue(inner, 4, file.executable);
      writeNonEmpty(inner, 5, file.contents);
    });
  }
  for (const directory of result.outputDirectories.toSorted(byPath)) {
    nested(writer, 3, (inner) => {
      writeText(inner, 1, directory.path, "an output path");
      if (directory.tree !== undefined) writeDigest(inner, 3, directory.tree);
      writeTrue(inner, 4, directory.isTopologicallySorted);
      if (directory.rootDirectory !== undefined) writeDigest(inner, 5, directory.rootDirectory);
    });
  }
  if (!Number.isInteger(result.exitCode) || Math.abs(result.exitCode) > 2 ** 32) {
    throw new Fault(
      invalid,
      `Cannot encode a result as its exit code must be of 32 bits: current value is ${result.exitCode}`,
    );
  }
  if (result.exitCode !== 0) {
    writer.tag(4, varintWire);
    writer.signed(result.exitCode);
  }
  writeNonEmpty(writer, 5, result.stdoutRaw);
  if (result.stdout !== undefined) writeDigest(writer, 6, result.stdout);
  writeNonEmpty(writer, 7, result.stderrRaw);
  if (result.stderr !== undefined) writeDigest(writer, 8, result.stderr);
  if (result.execution !== undefined) nested(writer, 9, (inner) => writeExecution(inner, result.execution!));
  for (
    const [field, symlinks] of [
      [10, result.outputFileSymlinks],
      [11, result.outputDirectorySymlinks],
      [12, result.outputSymlinks],
    ] as const
  ) {
    for (const symlink of symlinks.toSorted(byPath)) {
      nested(writer, field, (inner) => {
        writeText(inner, 1, symlink.path, "an output path");
        writeText(inner, 2, symlink.target, "a symlink's target");
      });
    }
  }
  return writer.finish();
}

function writeExecution(writer: WireWriter, execution: ExecutionMetadata): void {
  writeText(writer, 1, execution.worker, "a worker");
  for (const [field, name] of instants) {
    if (field > auxiliaryField) writeAuxiliary(writer, execution.auxiliary);
    const instant = execution[name];
    if (instant !== undefined) nested(writer, field, (inner) => writeInstant(inner, instant));
  }
}

function writeAuxiliary(writer: WireWriter, auxiliary: readonly AnyData[]): void {
  for (const { typeUrl, value } of auxiliary) {
    nested(writer, auxiliaryField, (inner) => {
      writeText(inner, 1, typeUrl, "a type");
      writeNonEmpty(inner, 2, value);
    });
  }
}

function writeInstant(writer: WireWriter, { seconds, nanos }: Timestamp): void {
  if (!Number.isSafeInteger(seconds) || !Number.isInteger(nanos) || Math.abs(nanos) >= 1e9) {
    throw new Fault(
      invalid,
      `Cannot encode a time as it must be whole seconds and less than 1e9 ns: current value is ${seconds} s ${nanos} ns`,
    );
  }
  for (const [field, value] of [[1, seconds], [2, nanos]] as const) {
    if (value === 0) continue;
    writer.tag(field, varintWire);
    writer.signed(value);
  }
}

/**
 * The outputs as they came, text and digests checked; paths are not: whoever lays them out checks those.
 *
 * @throws {Fault} `REQUEST_INVALID` for bytes that are no ActionResult.
 */
export function decodeActionResult(bytes: Uint8Array): ActionResultData {
  const reader: WireReader = new WireReader(bytes, "an ActionResult", invalid);
  const outputFiles: OutputFile[] = [];
  const outputDirectories: OutputDirectory[] = [];
  const outputSymlinks: OutputSymlink[] = [];
  const outputFileSymlinks: OutputSymlink[] = [];
  const outputDirectorySymlinks: OutputSymlink[] = [];
  let exitCode = 0;
  const streams: { -readonly [Name in "stdoutRaw" | "stderrRaw"]?: Uint8Array } = {};
  const digests: { -readonly [Name in "stdout" | "stderr"]?: Digest } = {};
  let execution: ExecutionMetadata | undefined;
  while (reader.next()) {
    if (reader.field === 2) outputFiles.push(readFile(reader.bytes()));
    else if (reader.field === 3) outputDirectories.push(readDirectory(reader.bytes()));
    else if (reader.field === 4) exitCode = reader.signed();
    else if (reader.field === 5) streams.stdoutRaw = new Uint8Array(reader.bytes());
    else if (reader.field === 6) digests.stdout = readDigest(reader.bytes(), "the digest of stdout", invalid);
    else if (reader.field === 7) streams.stderrRaw = new Uint8Array(reader.bytes());
    else if (reader.field === 8) digests.stderr = readDigest(reader.bytes(), "the digest of stderr", invalid);
    else if (reader.field === 9) execution = readExecution(reader.bytes());
    else if (reader.field === 10) outputFileSymlinks.push(readSymlink(reader.bytes()));
    else if (reader.field === 11) outputDirectorySymlinks.push(readSymlink(reader.bytes()));
    else if (reader.field === 12) outputSymlinks.push(readSymlink(reader.bytes()));
    else reader.skip();
  }
  if (Math.abs(exitCode) > 2 ** 32) reader.fail(`the exit code must be of 32 bits: current value is ${exitCode}`);
  if (streams.stdoutRaw?.length === 0) delete streams.stdoutRaw;
  if (streams.stderrRaw?.length === 0) delete streams.stderrRaw;
  return {
    outputFiles,
    outputDirectories,
    outputSymlinks,
    outputFileSymlinks,
    outputDirectorySymlinks,
    exitCode,
    ...streams,
    ...digests,
    ...(execution === undefined ? {} : { execution }),
  };
}

function readFile(bytes: Uint8Array): OutputFile {
  const reader: WireReader = new WireReader(bytes, "an output file", invalid);
  let path = "";
  let digest: Digest | undefined;
  let executable = false;
  let contents: Uint8Array | undefined;
  while (reader.next()) {
    if (reader.field === 1) path = reader.text();
    else if (reader.field === 2) digest = readDigest(reader.bytes(), "the digest of an output file", invalid);
    else if (reader.field === 4) executable = reader.bool();
    else if (reader.field === 5) contents = new Uint8Array(reader.bytes());
    else reader.skip();
  }
  if (digest === undefined) reader.fail(`"${path}" must have a digest: current value is none`);
  return { path, digest, executable, ...(contents === undefined || contents.length === 0 ? {} : { contents }) };
}

function readDirectory(bytes: Uint8Array): OutputDirectory {
  const reader: WireReader = new WireReader(bytes, "an output directory", invalid);
  let path = "";
  let tree: Digest | undefined;
  let rootDirectory: Digest | undefined;
  let isTopologicallySorted = false;
  while (reader.next()) {
    if (reader.field === 1) path = reader.text();
    else if (reader.field === 3) tree = readDigest(reader.bytes(), "the digest of a tree", invalid);
    else if (reader.field === 4) isTopologicallySorted = reader.bool();
    else if (reader.field === 5) rootDirectory = readDigest(reader.bytes(), "the digest of a directory", invalid);
    else reader.skip();
  }
  if (tree === undefined && rootDirectory === undefined) {
    reader.fail(`"${path}" must have a digest: current value is none`);
  }
  return {
    path,
    ...(tree === undefined ? {} : { tree }),
    ...(rootDirectory === undefined ? {} : { rootDirectory }),
    isTopologicallySorted,
  };
}

function readSymlink(bytes: Uint8Array): OutputSymlink {
  const reader: WireReader = new WireReader(bytes, "an output symlink", invalid);
  let path = "";
  let target = "";
  while (reader.next()) {
    if (reader.field === 1) path = reader.text();
    else if (reader.field === 2) target = reader.text();
    else reader.skip();
  }
  return { path, target };
}

const instantNames = new Map<number, (typeof instants)[number][1]>(instants);

function readExecution(bytes: Uint8Array): ExecutionMetadata {
  const reader: WireReader = new WireReader(bytes, "execution metadata", invalid);
  let worker = "";
  const times: { -readonly [Name in (typeof instants)[number][1]]?: Timestamp } = {};
  const auxiliary: AnyData[] = [];
  while (reader.next()) {
    const name = instantNames.get(reader.field);
    if (name !== undefined) times[name] = readInstant(reader.bytes());
    else if (reader.field === 1) worker = reader.text();
    else if (reader.field === auxiliaryField) auxiliary.push(readAny(reader.bytes()));
    else reader.skip();
  }
  return { worker, ...times, auxiliary };
}

function readInstant(bytes: Uint8Array): Timestamp {
  const reader: WireReader = new WireReader(bytes, "a time", invalid);
  let seconds = 0;
  let nanos = 0;
  while (reader.next()) {
    if (reader.field === 1) seconds = reader.signed();
    else if (reader.field === 2) nanos = reader.signed();
    else reader.skip();
  }
  if (Math.abs(nanos) >= 1e9) reader.fail(`its nanoseconds must be less than 1e9: current value is ${nanos}`);
  return { seconds, nanos };
}

function readAny(bytes: Uint8Array): AnyData {
  const reader: WireReader = new WireReader(bytes, "an Any", invalid);
  let typeUrl = "";
  let value: Uint8Array = new Uint8Array(0);
  while (reader.next()) {
    if (reader.field === 1) typeUrl = reader.text();
    else if (reader.field === 2) value = new Uint8Array(reader.bytes());
    else reader.skip();
  }
  return { typeUrl, value };
}
