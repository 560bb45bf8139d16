/** Names of things, branded so that one cannot be passed for another. All are short strings of printable ASCII. */

declare const brand: unique symbol;
/** An interface, so that the declarations of other modules can name it. */
export interface Brand<Name extends string> {
  readonly [brand]: Name;
}
type Branded<Base, Name extends string> = Base & Brand<Name>;

/** `j` and a time-ordered part: "j01k3x9q7f-4m2d". Newer jobs sort later. */
export type JobId = Branded<string, "JobId">;
/** A task by its job and its place in it, counted from 0: "j01k3x9q7f-4m2d/0". */
export type TaskId = Branded<string, "TaskId">;
/** A worker; it keeps its id when it restarts. */
export type WorkerId = Branded<string, "WorkerId">;
/** Where an actor is found: "job/<JobId>", "task/<TaskId>", "worker/<WorkerId>", "scheduler". */
export type Address = Branded<string, "Address">;

export const jobId = (text: string): JobId => text as JobId;
export const workerId = (text: string): WorkerId => text as WorkerId;
export const taskId = (job: JobId, index: number): TaskId => `${job}/${index}` as TaskId;
export const jobOfTask = (task: TaskId): JobId => task.slice(0, task.indexOf("/")) as JobId;
export const indexOfTask = (task: TaskId): number => Number(task.slice(task.indexOf("/") + 1));

export const schedulerAddress = "scheduler" as Address;
export const jobAddress = (job: JobId): Address => `job/${job}` as Address;
export const taskAddress = (task: TaskId): Address => `task/${task}` as Address;
export const workerAddress = (worker: WorkerId): Address => `worker/${worker}` as Address;
export const attemptAddress = (task: TaskId, attempt: number): Address => `attempt/${task}/${attempt}` as Address;
/** Not an actor of this host: what is said there leaves the process by the connection of that member. */
export const memberAddress = (member: string): Address => `member/${member}` as Address;

/** The kind of an address: the part before the first slash. */
export const kindOf = (address: Address): string => {
  const slash = address.indexOf("/");
  return slash < 0 ? address : address.slice(0, slash);
};
export const nameOf = (address: Address): string => address.slice(address.indexOf("/") + 1);

const crockford = "0123456789abcdefghjkmnpqrstvwxyz";

/** When a job was accepted, as its id has it. Epoch milliseconds. */
export function acceptedAtMs(jobId: JobId): number {
  let atMs = 0;
  for (let at = 1; at <= 10; at++) atMs = atMs * 32 + crockford.indexOf(jobId[at]!);
  return atMs;
}

/**
 * A new job id from the time and 30 random bits; ids of one millisecond differ by chance alone.
 *
 * @param atMs epoch milliseconds, below 2^50.
 * @param chance 30 random bits as an integer, from the host's random source.
 */
export function newJobId(atMs: number, chance: number): JobId {
  let time = "";
  for (let n = atMs, i = 0; i < 10; i++, n = Math.floor(n / 32)) time = crockford.charAt(n % 32) + time;
  let tail = "";
  for (let n = chance, i = 0; i < 6; i++, n = Math.floor(n / 32)) tail = crockford.charAt(n % 32) + tail;
  return `j${time}-${tail}` as JobId;
}
