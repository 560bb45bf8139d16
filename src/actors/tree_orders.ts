import { taskAddress, type TaskId } from "../domain/ids.ts";
import { type TaskContext, type TaskEvent, treeWantedBy } from "../machines/task.ts";
import type { Push, SchedulerRequest } from "../protocol/client_messages.ts";

export type TreeRequest = Extract<SchedulerRequest, { type: `tree.${string}` }>;

export interface TreeOrdersOptions {
  /** Of a task that has not settled; undefined once it has. */
  readonly taskOf: (taskId: TaskId) => TaskContext | undefined;
  readonly send: (gateway: string, push: Push) => void;
  readonly tell: (
    address: ReturnType<typeof taskAddress>,
    event: Extract<TaskEvent, { type: `task.tree${string}` }>,
    gateway: string,
  ) => void;
  readonly now: () => number;
}

/**
 * The trees that tasks want made, with the gateways that make them: they have the store, and the scheduler does not. All
 * that is open is said to the gateway that came last, and again to another when that one goes or cannot make it; the same
 * tree made twice is the same tree. What none that is there can make fails. Derived, never saved. Call it inside of a turn.
 */
export interface TreeOrders {
  want(taskId: TaskId): void;
  hear(gateway: string, request: TreeRequest): void;
  /** A gateway has gone. */
  leave(gateway: string): void;
}

type Failed = Pick<Extract<TreeRequest, { type: "tree.failed" }>, "of" | "fault"> & { readonly gateway: string };

export function createTreeOrders({ taskOf, send, tell, now }: TreeOrdersOptions): TreeOrders {
  /** With those that could not make it: they may have other stores. */
  const open = new Map<TaskId, { readonly failed: Set<string>; last?: Failed }>();
  /** The numbers that they want to be told under; the newest last. */
  const servers = new Map<string, number>();

  const order = (taskId: TaskId): void => {
    const task = taskOf(taskId);
    const tree = task === undefined ? undefined : treeWantedBy(task);
    if (tree === undefined) return void open.delete(taskId);
    const known = open.get(taskId) ?? { failed: new Set<string>() };
    open.set(taskId, known);
    const newest = [...servers].findLast(([gateway]) => !known.failed.has(gateway));
    if (newest !== undefined) {
      const [gateway, watch] = newest;
      return send(gateway, { type: "tree.wanted", watch, taskId, tree });
    }
    if (known.last === undefined || servers.size === 0) return;
    open.delete(taskId);
    const { of, fault, gateway } = known.last;
    tell(taskAddress(taskId), { type: "task.treeFailed", of, fault, atMs: now() }, gateway);
  };
  const orderAll = (): void => [...open.keys()].forEach(order);

  return {
    want: order,
    hear(gateway, request) {
      if (request.type === "tree.serve") {
        servers.delete(gateway);
        servers.set(gateway, request.watch);
        return orderAll();
      }
      const { taskId, of } = request;
      const task = taskOf(taskId);
      if (task === undefined) return void open.delete(taskId); // killed meanwhile
      if (treeWantedBy(task)?.of !== of) return; // said twice
      if (request.type === "tree.failed") {
        const known = open.get(taskId) ?? { failed: new Set<string>() };
        open.set(taskId, known);
        known.failed.add(gateway);
        known.last = { of, fault: request.fault, gateway };
        return order(taskId);
      }
      open.delete(taskId);
      tell(taskAddress(taskId), { type: "task.treeMade", of, tree: request.tree, atMs: now() }, gateway);
    },
    leave(gateway) {
      if (servers.delete(gateway)) orderAll();
    },
  };
}
