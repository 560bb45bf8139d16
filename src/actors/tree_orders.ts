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
 * that is open is said to the gateway that came last, and again to another when that one goes; the same tree made twice
 * is the same tree. Derived, never saved. Call it inside of a turn.
 */
export interface TreeOrders {
  want(taskId: TaskId): void;
  hear(gateway: string, request: TreeRequest): void;
  /** A gateway has gone. */
  leave(gateway: string): void;
}

export function createTreeOrders({ taskOf, send, tell, now }: TreeOrdersOptions): TreeOrders {
  const open = new Set<TaskId>();
  /** The numbers that they want to be told under; the newest last. */
  const servers = new Map<string, number>();

  const order = (taskId: TaskId): void => {
    const task = taskOf(taskId);
    const tree = task === undefined ? undefined : treeWantedBy(task);
    if (tree === undefined) return void open.delete(taskId);
    open.add(taskId);
    const newest = [...servers].at(-1);
    if (newest === undefined) return;
    const [gateway, watch] = newest;
    send(gateway, { type: "tree.wanted", watch, taskId, tree });
  };
  const orderAll = (): void => [...open].forEach(order);

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
      open.delete(taskId);
      const atMs = now();
      tell(
        taskAddress(taskId),
        request.type === "tree.made"
          ? { type: "task.treeMade", of, tree: request.tree, atMs }
          : { type: "task.treeFailed", of, fault: request.fault, atMs },
        gateway,
      );
    },
    leave(gateway) {
      if (servers.delete(gateway)) orderAll();
    },
  };
}
