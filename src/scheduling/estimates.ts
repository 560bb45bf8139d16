import type { Estimate } from "../domain/job.ts";
import type { TaskId, WorkerId } from "../domain/ids.ts";
import { meets, platformKey } from "./fleet.ts";

type Platform = Readonly<Record<string, string>>;

/** By what runs are alike: tasks of one name that want the same platform, whoever asked for them. */
export interface Kind {
  readonly name: string;
  readonly platform: Platform;
}

/** A run that succeeded. */
export interface Run {
  readonly durationMs: number;
  /** Absent when it was not measured. */
  readonly peakMemoryBytes?: number;
}

/**
 * What tasks will take, from what those like them took.
 *
 * Of each kind the last 8 runs count: the duration is their median, the memory the greatest of their peaks, an older one
 * counting less for each run since. Of 10,000 kinds, those that ran last are known; a kind whose name and platform are
 * longer than 2,000 characters together is not remembered.
 */
export interface Estimates {
  observe(kind: Kind, run: Run): void;
  /** Undefined when none like it has run. Its memory is absent when none of them was measured. */
  of(kind: Kind): Estimate | undefined;
  readonly kinds: number;
}

/** Runs of a kind that count. */
const runsMax = 8;
export const kindsMax = 10_000;
const keyMax = 2_000;
/** What a peak counts for after each further run. */
const fading = 0.95;

interface Seen {
  /** The newest last. */
  readonly durationsMs: number[];
  readonly peaks: number[];
  /** What they come to, once somebody has asked. */
  estimate: Estimate | undefined;
}

export function createEstimates(): Estimates {
  const seen = new Map<string, Seen>();
  const keyOf = ({ name, platform }: Kind): string => `${name}\n${platformKey(platform)}`;
  return {
    observe(kind, { durationMs, peakMemoryBytes }) {
      const key = keyOf(kind);
      if (key.length > keyMax) return;
      const known = seen.get(key) ?? { durationsMs: [], peaks: [], estimate: undefined };
      known.estimate = undefined;
      push(known.durationsMs, durationMs);
      if (peakMemoryBytes !== undefined) push(known.peaks, peakMemoryBytes);
      seen.delete(key);
      seen.set(key, known);
      if (seen.size > kindsMax) seen.delete(seen.keys().next().value!);
    },
    of(kind) {
      const known = seen.get(keyOf(kind));
      if (known === undefined) return undefined;
      return known.estimate ??= estimateOf(known);
    },
    get kinds() {
      return seen.size;
    },
  };
}

function estimateOf({ durationsMs, peaks }: Seen): Estimate {
  const durationMs = median(durationsMs);
  if (peaks.length === 0) return { durationMs };
  const faded = peaks.map((peak, at) => peak * fading ** (peaks.length - 1 - at));
  return { durationMs, peakMemoryBytes: Math.ceil(Math.max(...faded)) };
}

function push(values: number[], value: number): void {
  values.push(value);
  if (values.length > runsMax) values.shift();
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : Math.round((sorted[middle - 1]! + sorted[middle]!) / 2);
}

/** The least that a place is kept for: below it a worker's slots are what limits. */
const needBytesMin = 64 * 1024 * 1024;

/** Rounded up, four steps from each power of two to the next: few different needs make few queues. */
export function roundedNeed(bytes: number): number {
  if (bytes < needBytesMin) return 0;
  const step = 2 ** Math.floor(Math.log2(bytes)) / 4;
  return Math.ceil(bytes / step) * step;
}

/**
 * The memory for which a task that declared none is given a place. It is a guess, so it must never keep a task from
 * running: it is at most what the largest worker has that the task could use. When that worker goes, the tasks that
 * then ask for too much are told by {@link misfits}.
 */
export interface GuessedNeeds {
  /** A worker that may be given tasks; `memoryBytes` absent: it does not count its memory. */
  setWorker(workerId: WorkerId, worker: { readonly platform: Platform; readonly memoryBytes?: number }): void;
  removeWorker(workerId: WorkerId): void;
  /** Undefined when nothing need be asked for: too little, or no worker counts its memory. */
  needOf(platform: Platform, peakMemoryBytes: number): number | undefined;
  /** The task was queued with that need. */
  queued(taskId: TaskId, platform: Platform, needBytes: number): void;
  /** It is not in the queue any more. */
  gone(taskId: TaskId): void;
  /** Queued tasks that no worker has the memory for any more, each once: they are to be queued anew. */
  misfits(): readonly TaskId[];
}

interface Shape {
  readonly platform: Platform;
  readonly needBytes: number;
  readonly tasks: Set<TaskId>;
}

export function createGuessedNeeds(): GuessedNeeds {
  const workers = new Map<WorkerId, { readonly platform: Platform; readonly memoryBytes?: number }>();
  /** By platform: what the largest worker has that meets it; 0 when none counts. */
  const rooms = new Map<string, number>();
  const shapes = new Map<string, Shape>();
  const shapeOf = new Map<TaskId, string>();
  let mayBeTooBig = false;

  const roomFor = (platform: Platform): number => {
    const key = platformKey(platform);
    const known = rooms.get(key);
    if (known !== undefined) return known;
    let room = 0;
    let counts = false;
    for (const worker of workers.values()) {
      if (!meets(worker.platform, platform)) continue;
      if (worker.memoryBytes !== undefined) counts = true;
      room = Math.max(room, worker.memoryBytes ?? Infinity);
    }
    if (!counts) room = 0;
    if (rooms.size >= kindsMax) rooms.clear();
    rooms.set(key, room);
    return room;
  };
  const changed = (): void => {
    rooms.clear();
    mayBeTooBig = shapes.size > 0;
  };
  const gone = (taskId: TaskId): void => {
    const key = shapeOf.get(taskId);
    if (key === undefined) return;
    shapeOf.delete(taskId);
    const { tasks } = shapes.get(key)!;
    tasks.delete(taskId);
    if (tasks.size === 0) shapes.delete(key);
  };

  return {
    setWorker(workerId, { platform, memoryBytes }) {
      const known = workers.get(workerId);
      if (
        known !== undefined && known.memoryBytes === memoryBytes &&
        platformKey(known.platform) === platformKey(platform)
      ) return;
      workers.set(workerId, { platform, ...(memoryBytes === undefined ? {} : { memoryBytes }) });
      changed();
    },
    removeWorker(workerId) {
      if (workers.delete(workerId)) changed();
    },
    needOf(platform, peakMemoryBytes) {
      const needBytes = Math.min(roundedNeed(peakMemoryBytes), roomFor(platform));
      return needBytes === 0 ? undefined : needBytes;
    },
    queued(taskId, platform, needBytes) {
      gone(taskId);
      const key = `${needBytes} ${platformKey(platform)}`;
      let shape = shapes.get(key);
      if (shape === undefined) shapes.set(key, shape = { platform, needBytes, tasks: new Set() });
      shape.tasks.add(taskId);
      shapeOf.set(taskId, key);
    },
    gone,
    misfits() {
      if (!mayBeTooBig) return [];
      mayBeTooBig = false;
      const found: TaskId[] = [];
      for (const { platform, needBytes, tasks } of shapes.values()) {
        if (needBytes > roomFor(platform)) found.push(...tasks);
      }
      for (const taskId of found) gone(taskId);
      return found;
    },
  };
}
