import type { WorkerId } from "./ids.ts";

/** What a worker says of itself when it joins. */
export interface WorkerDescription {
  readonly workerId: WorkerId;
  /** New at each start of its process: attempts of an older one are gone. */
  readonly incarnation: string;
  /** Commands at once. */
  readonly slots: number;
  readonly platform: Readonly<Record<string, string>>;
  readonly isolation: string;
  /** What it has for the needs of tasks, in thousandths of a processor and in bytes. Absent: as much as is asked for. */
  readonly cpuMillis?: number;
  readonly memoryBytes?: number;
  /** Why it is to be given nothing for now: its disk is full. What it holds goes on. */
  readonly paused?: string;
}
