/** One command to run. The runner is given a folder: it knows no trees. */
export interface RunRequest {
  /** Unique among those running; names the record that finds leftovers after a crash. */
  readonly id: string;
  readonly argv: readonly string[];
  /** Exactly the environment of the command. */
  readonly env: Readonly<Record<string, string>>;
  /** Absolute. */
  readonly cwd: string;
  /**
   * Absolute paths of files to write the streams to, made anew; may be the same for both. Who follows a file while the
   * command runs stops at `outputBytesMax`: what lies behind it is cut sooner or later.
   */
  readonly stdoutPath: string;
  readonly stderrPath: string;
  /** Bytes kept of each stream; more is cut, and counted in `Exit`. */
  readonly outputBytesMax: number;
  readonly timeoutMs: number;
  /** Between SIGTERM and SIGKILL. */
  readonly graceMs: number;
  /** What all its processes may hold together. Absent: as much as there is. */
  readonly memoryBytesMax?: number;
}

/** What a command took of the machine. */
export interface Usage {
  /** Of all its processes together. */
  readonly peakMemoryBytes: number;
  /** User and system time of all of them. */
  readonly cpuMs: number;
}

/** How a command ended. */
export type Exit =
  & {
    readonly startedAtMs: number;
    readonly endedAtMs: number;
    /** What was written beyond the limit; a little less than that when a command wrote very much very fast. */
    readonly stdoutTruncatedBytes: number;
    readonly stderrTruncatedBytes: number;
    /** Absent when it was not measured: it was over too soon, or this system does not tell. */
    readonly usage?: Usage;
  }
  & (
    | { readonly kind: "exited"; readonly exitCode: number; readonly signal?: string }
    | { readonly kind: "timedOut" }
    | { readonly kind: "stopped"; readonly reason: string }
    /** It was killed at once, without grace, as it held more than it may. */
    | { readonly kind: "memoryExceeded"; readonly memoryBytes: number; readonly memoryBytesMax: number }
  );

export interface Running {
  readonly pid: number;
  readonly startedAtMs: number;
  /** Settles when the command and its whole process group are gone and both files are complete. */
  readonly exit: Promise<Exit>;
  /** SIGTERM to the group, `graceMs` later SIGKILL. A second call, or one after the end, does nothing. */
  stop(reason: string): void;
}

export interface Runner {
  /** @throws {Fault} `COMMAND_NOT_STARTED` with what was wrong (not found, not executable, no such folder). */
  start(request: RunRequest): Promise<Running>;
  /** Kills what an earlier process of this runner left running, by recorded group and start time. @returns how many. */
  killLeftovers(): Promise<number>;
  /** How a task is kept apart from this machine, as a sentence for people. */
  readonly isolation: string;
  close(): Promise<void>;
}
