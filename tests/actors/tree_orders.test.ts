import { expect, test } from "vitest";
import { createTreeOrders } from "../../src/actors/tree_orders.ts";
import { digestOfHash } from "../../src/domain/digest.ts";
import { jobId, type TaskId, taskId } from "../../src/domain/ids.ts";
import type { TaskContext } from "../../src/machines/task.ts";

const job = jobId("j0123456789-000000");
const snapshot = digestOfHash("a".repeat(64), 3);

function rig() {
  /** Tasks that want a tree of their inputs. */
  const tasks = new Map<TaskId, TaskContext>();
  const told: string[] = [];
  const sent: string[] = [];
  const orders = createTreeOrders({
    taskOf: (id) => tasks.get(id),
    send: (gateway, push) => {
      if (push.type === "tree.wanted") {
        sent.push(`${gateway}#${push.watch} ${push.taskId.split("/")[1]} ${push.tree.of}`);
      }
    },
    tell(address, event) {
      told.push(`${address.split("/").at(-1)} ${event.type} ${event.of}`);
      const id = taskId(job, Number(address.split("/").at(-1)));
      // As the machine does: it wants no more.
      tasks.set(id, { ...tasks.get(id)!, sourceOutput: snapshot });
    },
    now: () => 7,
  });
  const take = <Item>(list: Item[]): Item[] => list.splice(0);
  return {
    orders,
    tasks,
    want(...indexes: number[]) {
      for (const index of indexes) {
        const parts = [{ path: "", name: "", snapshot }];
        tasks.set(taskId(job, index), { source: { kind: "mounted", parts } } as unknown as TaskContext);
        orders.want(taskId(job, index));
      }
    },
    failed: (index: number, gateway = "g1") =>
      orders.hear(gateway, {
        type: "tree.failed",
        taskId: taskId(job, index),
        of: "inputs",
        fault: { code: "PATH_INVALID", message: "x" },
      }),
    made: (index: number, of: "inputs" | "output" = "inputs", gateway = "g1") =>
      orders.hear(gateway, { type: "tree.made", taskId: taskId(job, index), of, tree: snapshot }),
    told: () => take(told),
    sent: () => take(sent),
  };
}

test("what is wanted while no gateway is there is said to the first that comes, and once to one that is there", () => {
  const { orders, want, sent, made, failed, told } = rig();
  want(1, 2);
  expect(sent()).toEqual([]);
  orders.hear("g1", { type: "tree.serve", watch: 5 });
  expect(sent()).toEqual(["g1#5 1 inputs", "g1#5 2 inputs"]);
  want(3);
  expect(sent()).toEqual(["g1#5 3 inputs"]);
  made(2);
  made(2);
  made(3, "output");
  expect(told(), "an answer counts once, and only to what was asked").toEqual(["2 task.treeMade inputs"]);
  failed(3);
  expect(told()).toEqual(["3 task.treeFailed inputs"]);
  orders.hear("g1", { type: "tree.serve", watch: 6 });
  expect(sent(), "it has lost what it was told").toEqual(["g1#6 1 inputs"]);
});

test("what a gateway left undone is said to another, or to the next that comes; what was killed is not", () => {
  const { orders, want, sent, tasks, made, told } = rig();
  orders.hear("g1", { type: "tree.serve", watch: 1 });
  orders.hear("g2", { type: "tree.serve", watch: 1 });
  want(1, 2, 3);
  expect(sent()).toEqual(["g2#1 1 inputs", "g2#1 2 inputs", "g2#1 3 inputs"]);
  tasks.delete(taskId(job, 2));
  made(2);
  expect(told()).toEqual([]);
  orders.leave("g2");
  expect(sent()).toEqual(["g1#1 1 inputs", "g1#1 3 inputs"]);
  orders.leave("g1");
  orders.leave("g1");
  expect(sent()).toEqual([]);
  made(1, "inputs", "g1");
  expect(told(), "what it said last counts").toEqual(["1 task.treeMade inputs"]);
  orders.hear("g3", { type: "tree.serve", watch: 9 });
  expect(sent()).toEqual(["g3#9 3 inputs"]);
});

test("what one gateway cannot make another may, which has another store; what none can is the end of its task", () => {
  const { orders, want, sent, made, failed, told } = rig();
  orders.hear("g1", { type: "tree.serve", watch: 1 });
  orders.hear("g2", { type: "tree.serve", watch: 1 });
  want(1, 2, 3);
  sent();
  failed(1, "g2");
  failed(2, "g2");
  failed(3, "g2");
  expect([told(), sent()]).toEqual([[], ["g1#1 1 inputs", "g1#1 2 inputs", "g1#1 3 inputs"]]);
  made(1);
  failed(2);
  failed(2);
  expect(told()).toEqual(["1 task.treeMade inputs", "2 task.treeFailed inputs"]);
  orders.leave("g1");
  expect([told(), sent()], "nobody is left who could").toEqual([["3 task.treeFailed inputs"], []]);
});
