import type { Address } from "../../src/domain/ids.ts";
import type { Entry } from "../../src/snapshots/states/states.ts";

const at = (text: string): Address => text as Address;
export const isInternal = (to: Address): boolean => !to.startsWith("member/");

const taskEntry = (seq: number): Entry => ({
  seq,
  atMs: 1_760_000_000_000 + seq,
  epoch: 2,
  address: at(`task/j01k3x9q7f-4m2d/${seq % 5}`),
  machine: "task",
  version: 1,
  state: {
    status: "active",
    value: seq % 2 === 0 ? "queued" : "placed",
    context: { attempt: seq, bytes: Uint8Array.of(seq) },
  },
  cause: { id: `x:${seq}`, from: at("member/w1"), event: { type: "task.placed", share: seq / 7 } },
  said: [{ id: `${seq}.0`, to: at("member/w1"), body: { type: "worker.hold", attempt: seq } }],
  reason: "w1 has its files",
});

const jobEntry = (seq: number, rest: Partial<Entry>): Entry => ({
  seq,
  atMs: 1_760_000_000_000 + seq,
  epoch: 1,
  address: at("job/j01k3x9q7f-4m2d"),
  machine: "job",
  version: 3,
  state: { status: "active", value: "running" },
  cause: { id: `x:${seq}`, from: at("member/gateway"), event: { type: "job.create" } },
  said: [],
  ...rest,
});

/** What lies in `states_v1/store`, of whose history the oldest was pruned; and in `states_v1/job.sealed` its tasks. */
export const storeV1: {
  readonly entries: readonly Entry[];
  readonly firstSeq: number;
  readonly unsent: readonly (Entry["said"][number] & { readonly from: Address })[];
  readonly payload: string;
} = {
  entries: [
    jobEntry(1, { said: [{ id: "1.0", to: at("task/j01k3x9q7f-4m2d/2"), body: { type: "task.create" } }] }),
    jobEntry(2, { address: at("worker/idle"), machine: "worker" }),
    jobEntry(3, { address: at("worker/left"), machine: "worker" }),
    jobEntry(4, { address: at("worker/left"), machine: "worker", state: null }),
    {
      ...taskEntry(5),
      epoch: 1,
      cause: { id: "1.0", from: at("job/j01k3x9q7f-4m2d"), event: { type: "task.create" } },
    },
    ...Array.from({ length: 20 }, (_, index) => taskEntry(index + 6)),
    { ...taskEntry(26), said: [{ id: "26.0", to: at("job/j01k3x9q7f-4m2d"), body: { type: "task.settled" } }] },
    { ...taskEntry(27), state: null },
  ],
  firstSeq: 7,
  unsent: [{
    id: "26.0",
    to: at("job/j01k3x9q7f-4m2d"),
    body: { type: "task.settled" },
    from: at("task/j01k3x9q7f-4m2d/1"),
  }],
  payload: "the output of a task\n",
};
