import type { Digest } from "./digest.ts";

/** A moment as protobuf has it: seconds since the epoch, before it when negative, and 0 to 999,999,999 nanoseconds. */
export interface Timestamp {
  readonly seconds: number;
  readonly nanos: number;
}

export const timestampOf = (atMs: number): Timestamp => ({
  seconds: Math.floor(atMs / 1_000),
  nanos: (atMs % 1_000) * 1_000_000,
});

export interface OutputFile {
  /** Relative to the working directory. */
  readonly path: string;
  readonly digest: Digest;
  readonly executable: boolean;
  /** The bytes themselves, where an answer holds them beside the digest. */
  readonly contents?: Uint8Array;
}

/** A folder that was made, by one of the two digests or both. */
export interface OutputDirectory {
  readonly path: string;
  /** Of a `Tree`. */
  readonly tree?: Digest;
  /** Of a `Directory`; those below it are blobs too. */
  readonly rootDirectory?: Digest;
  /** Whether in the tree's bytes parents come before children. */
  readonly isTopologicallySorted: boolean;
}

export interface OutputSymlink {
  readonly path: string;
  readonly target: string;
}

/** A `google.protobuf.Any`, as it came. */
export interface AnyData {
  readonly typeUrl: string;
  readonly value: Uint8Array;
}

/** Where and when an action was run, as REAPI's `ExecutedActionMetadata` has it. */
export interface ExecutionMetadata {
  readonly worker: string;
  readonly queuedAt?: Timestamp;
  readonly workerStartedAt?: Timestamp;
  readonly workerCompletedAt?: Timestamp;
  readonly inputFetchStartedAt?: Timestamp;
  readonly inputFetchCompletedAt?: Timestamp;
  readonly executionStartedAt?: Timestamp;
  readonly executionCompletedAt?: Timestamp;
  readonly outputUploadStartedAt?: Timestamp;
  readonly outputUploadCompletedAt?: Timestamp;
  /** A duration. */
  readonly virtualExecution?: Timestamp;
  readonly auxiliary: readonly AnyData[];
}

/** What came of running an action, as REAPI's `ActionResult` has it. Lists of outputs are sets, in any order. */
export interface ActionResultData {
  readonly outputFiles: readonly OutputFile[];
  readonly outputDirectories: readonly OutputDirectory[];
  /** What clients since v2.1 read; the two below are for those before. */
  readonly outputSymlinks: readonly OutputSymlink[];
  readonly outputFileSymlinks: readonly OutputSymlink[];
  readonly outputDirectorySymlinks: readonly OutputSymlink[];
  /** A 32-bit integer, negative on some systems. */
  readonly exitCode: number;
  /** A stream as bytes; absent and empty are the same. */
  readonly stdoutRaw?: Uint8Array;
  readonly stdout?: Digest;
  readonly stderrRaw?: Uint8Array;
  readonly stderr?: Digest;
  readonly execution?: ExecutionMetadata;
}

/** The lists of outputs of an action that made none. */
export const noOutputs: Pick<
  ActionResultData,
  "outputFiles" | "outputDirectories" | "outputSymlinks" | "outputFileSymlinks" | "outputDirectorySymlinks"
> = {
  outputFiles: [],
  outputDirectories: [],
  outputSymlinks: [],
  outputFileSymlinks: [],
  outputDirectorySymlinks: [],
};
