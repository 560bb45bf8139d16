import type { Client } from "../api/client.ts";
import type { Digest } from "../domain/digest.ts";
import type { Facts } from "./diagnosis.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Blobs } from "../snapshots/blobs/blobs.ts";
import type { MountedPart } from "../snapshots/trees/compose.ts";
import type { RevisionReport } from "../snapshots/trees/capture_revision.ts";
import type { Since } from "../snapshots/trees/changed_since.ts";
import type { TreeChange } from "../snapshots/trees/diff.ts";
import type { CaptureReport, Node } from "../snapshots/trees/tree.ts";

/** What a command line program meets: everything a command touches comes from here, so that tests bring another one. */
export interface World {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** What the user's relative paths are relative to. Absolute. */
  readonly userDir: string;
  readonly stdout: Sink;
  readonly stderr: Sink;
  readonly stdin: AsyncIterable<Uint8Array>;
  readonly clock: Clock;
  /** Where this user's clusters say that they run. */
  readonly runtimeFolder: string;
  readonly processes: Processes;
  /** `bytes` random bytes as lower-case hex. */
  randomHex(bytes: number): string;
  /** Hears of SIGINT, SIGTERM and SIGHUP, which then do not end this process; the returned function takes it back. */
  onSignal(listener: (signal: "SIGINT" | "SIGTERM" | "SIGHUP") => void): () => void;
  /**
   * Calls back some time after something in a folder has changed, once for many changes at once; after what cannot be
   * watched, nothing. @returns what ends it.
   */
  watchFolder(dir: string, onChange: () => void): () => void;
  /** A new folder of this user's alone, somewhere temporary. */
  temporaryFolder(): string;
  /** Runs a program in this terminal, with exactly this environment. @returns its exit code, 128 + n for signal n. */
  runHere(
    program: { readonly argv: readonly string[]; readonly env: Record<string, string>; readonly dir: string },
  ): Promise<number>;
  /** What doctor looks at. */
  facts(named: { readonly cluster: string | undefined; readonly tokenFile: string | undefined }): Promise<Facts>;
  connect(target: Target): Promise<Client>;
  trees(): Promise<Trees>;
}

/** Where to find a cluster, and what to show there. */
export interface Target {
  /** "http://127.0.0.1:9090" */
  readonly url: string;
  readonly token?: string;
}

/** Where output goes. */
export interface Sink {
  /** Resolves when it has left. @throws {OutputClosed} when nobody reads any more. */
  write(bytes: Uint8Array | string): Promise<void>;
  readonly isTerminal: boolean;
  /** Characters in a line; 80 where that is not known. */
  readonly columns: number;
}

/** Whoever read our output is gone (`… | head -1`): nothing failed, there is just no point in going on. */
export class OutputClosed extends Error {
  constructor() {
    super("Cannot write output as its reader must be there: it is gone");
    this.name = "OutputClosed";
  }
}

/** Processes of this machine, by id. */
export interface Processes {
  isAlive(pid: number): boolean;
  /** The command line, where the system shows it. */
  commandLine(pid: number): string | undefined;
  terminate(pid: number): void;
}

/** How far a capture or checkout is. */
export interface TreeProgress {
  readonly files: number;
  readonly bytes: number;
}

interface TreeOptions {
  readonly blobs: Blobs;
  readonly dir: string;
  readonly onProgress?: (progress: TreeProgress) => void;
}

/** Folders to snapshots and back. */
export interface Trees {
  /** @param options.include paths that are taken although ignore rules, or their kind, would leave them out. */
  capture(
    options: TreeOptions & {
      readonly include: readonly string[];
      /** Whether the store has all of a snapshot: asked once, instead of after each file that is as it was. */
      readonly holdsTree: (snapshot: Digest) => Promise<boolean>;
      readonly signal?: AbortSignal;
    },
  ): Promise<CaptureReport>;
  checkout(options: TreeOptions & { readonly snapshot: Digest }): Promise<void>;
  /** A commit of a git repository, whatever lies in its folder. */
  captureRevision(
    options: {
      readonly repository: string;
      readonly revision: string;
      readonly blobs: Blobs;
      readonly signal?: AbortSignal;
    },
  ): Promise<RevisionReport>;
  /**
   * Puts what a snapshot has into a folder that has other things too; all of it, or nothing when something there was
   * changed since.
   */
  bringBack(options: TreeOptions & { readonly snapshot: Digest; readonly since: Since }): Promise<void>;
  /** What differs, by path. */
  diff(blobs: Blobs, before: Digest, after: Digest): AsyncIterable<TreeChange>;
  /** A tree with another laid over it, kept in the store. */
  overlay(blobs: Blobs, base: Digest, top: Digest): Promise<Digest>;
  /** One tree of several, each at a path, kept in the store. */
  mount(blobs: Blobs, parts: readonly MountedPart[]): Promise<Digest>;
  lookup(blobs: Blobs, snapshot: Digest, path: string): Promise<Node>;
  walk(blobs: Blobs, snapshot: Digest, path: string): AsyncIterable<{ readonly path: string; readonly node: Node }>;
}
