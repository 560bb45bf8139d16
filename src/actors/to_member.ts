import type { Answer, Push } from "../protocol/client_messages.ts";
import type { ToWorker } from "../protocol/worker_messages.ts";
import type { TaskMessage } from "../machines/task.ts";
import type { WorkerLink } from "./worker_links.ts";

/** What the scheduler's host says to members, once that on which it rests is durable. */
export type ToMember =
  | Extract<TaskMessage, { type: `attempt.${string}` }>
  | {
    readonly type: "worker.full";
    readonly link: WorkerLink;
    readonly hold: ToWorker["hold"];
    readonly drop: ToWorker["drop"];
  }
  | { readonly type: "gateway"; readonly re?: number; readonly body: Answer | Push }
  /** Work that must wait until all that was decided before is durable. Never saved. */
  | { readonly type: "then"; readonly work: () => void };
