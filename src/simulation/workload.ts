import { createHash } from "node:crypto";
import { type Digest, digestOfHash } from "../domain/digest.ts";
import type { TaskId } from "../domain/ids.ts";
import type { EncodedJob } from "../protocol/client_messages.ts";
import type { Random } from "../runtime/random.ts";

/** A digest of nothing that exists: the simulation moves names, not files. */
export const pretendDigest = (name: string): Digest =>
  digestOfHash(createHash("sha256").update(name).digest("hex"), name.length);

/** How a pretended command ends: every attempt of one task the same way, so that a result can be checked. */
export function pretendedExit(command: Digest): number {
  const digit = parseInt(command.slice(0, 2), 16);
  return digit < 200 ? 0 : digit - 199;
}

/** Nothing, what an earlier task made, or a snapshot with what some of them made. */
function inputOf(random: Random, index: number): EncodedJob["tasks"][number]["input"] {
  if (index === 0 || random.integer(2) === 0) return { kind: "empty" };
  if (random.integer(2) === 0) return { kind: "task", task: `t${random.integer(index)}` };
  const snapshot = { path: "", name: "the snapshot", snapshot: pretendDigest("snapshot") };
  const made = Array.from({ length: random.integer(4) }, (_, at) => {
    const task = `t${random.integer(index)}`;
    return { path: `part${at}`, name: task, task };
  });
  return { kind: "mounted", parts: [snapshot, ...made] };
}

export interface PlannedJob {
  readonly job: EncodedJob;
  readonly submitAtMs: number;
  readonly killAtMs: number | undefined;
}

/** Jobs of one to six tasks, some of them made of what others make, some that fail fast, some killed while they run. */
export function workload(random: Random, jobs: number, fromMs: number, forMs: number): PlannedJob[] {
  return Array.from({ length: jobs }, (_, number) => {
    const submitAtMs = fromMs + random.integer(forMs);
    const count = 1 + random.integer(6);
    const tasks = Array.from({ length: count }, (_, index): EncodedJob["tasks"][number] => ({
      name: `t${index}`,
      // Some commands are the same in several jobs: they share results, and runs in flight.
      command: pretendDigest(
        random.integer(3) === 0
          ? `shared command ${random.integer(4)}`
          : `command ${number} ${index} ${random.integer(1_000_000)}`,
      ),
      cache: (["use", "use", "use", "refresh", "off"] as const)[random.integer(5)]!,
      input: inputOf(random, index),
      ...(random.integer(5) === 0 ? { output: "full" as const } : {}),
      timeoutMs: 60_000,
      retries: random.integer(4) === 0 ? 1 : 0,
      // Nobody has the one, nor so much of the other; of the least of it there is enough for every slot.
      platform: random.integer(24) === 0 ? { gpu: "none" } : {},
      ...[{}, {}, { needs: { memoryBytes: 1 } }, { needs: { memoryBytes: random.integer(3) === 0 ? 9 : 1 } }][
        random.integer(4)
      ]!,
    }));
    return {
      job: {
        key: `job-${number}`,
        requestor: `r${random.integer(3)}`,
        basis: "",
        tag: "",
        priority: random.integer(3) as 0 | 1 | 2,
        failFast: random.integer(5) === 0,
        tasks,
      },
      submitAtMs,
      killAtMs: random.integer(8) === 0 ? submitAtMs + random.integer(10_000) : undefined,
    };
  });
}

/** What a simulated worker has: as a rule, and now and then. */
export const workerMemoryBytes = 4;
export const largeWorkerMemoryBytes = 16;

/** Whether any worker of a simulation could run it: some could run what asks for more. */
export const isPossible = (
  { platform, needs }: {
    readonly platform: Readonly<Record<string, string>>;
    readonly needs?: { readonly memoryBytes?: number };
  },
): boolean => Object.keys(platform).length === 0 && (needs?.memoryBytes ?? 0) <= workerMemoryBytes;

/** A run of a pretended command, as a mark that the command would leave. */
export interface Mark {
  readonly taskId: TaskId;
  readonly attempt: number;
  readonly workerId: string;
  readonly atMs: number;
}
