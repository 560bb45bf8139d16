import type { WorkerId } from "../domain/ids.ts";
import type { Room } from "./local_room.ts";

/**
 * One process of a cluster on one machine, started by its door. What it is comes as JSON in its first argument.
 */
export type Member =
  | {
    readonly role: "scheduler";
    readonly dataDir: string;
    /** Of all that is stored, in which its history has a part; 20 GB by default. */
    readonly maxBytes?: number;
    readonly guaranteedAgeMs?: number;
  }
  | {
    readonly role: "gateway";
    readonly dataDir: string;
    readonly tokenFile: string;
    readonly schedulerAddress: string;
    readonly hosts: readonly string[];
    /** Where people find the page in the browser. */
    readonly origin: string;
    /** Instance names of the Remote Execution API; any by default. */
    readonly instances?: readonly string[];
    readonly takesAnyResult: boolean;
    /** Of the store; 20 GB by default. */
    readonly maxBytes?: number;
    readonly guaranteedAgeMs?: number;
  }
  | {
    readonly role: "worker";
    readonly dataDir: string;
    readonly workerId: WorkerId;
    readonly slots: number;
    /** Its part of the machine. */
    readonly room: Room;
    readonly guaranteedAgeMs?: number;
    readonly schedulerAddress: string;
    readonly gatewayAddress: string;
  };

/** From the door to the scheduler, and back when it is done. */
export interface DrainMessage {
  readonly type: "drain";
  readonly why: string;
  readonly waitMs: number;
}
export const drainedMessage = { type: "drained" } as const;
