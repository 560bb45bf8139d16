import type { JobView } from "../../protocol/client_messages.ts";
import type { ActionStory, TaskGraph } from "../routes.ts";
import { ask, inspect } from "./data.ts";

/** Of more tasks than this a job is run again by the command line. */
export const tasksAgainMax = 200;

/**
 * A job as another one of the same commands on the same inputs, as `POST /v1/jobs` takes it. Pure.
 *
 * @param stories of each task, in the order of the graph's nodes. @throws {Error} when something of it is not there.
 */
export function jobAgain(
  job: Pick<JobView, "requestor" | "tag" | "priority">,
  { nodes, edges }: Pick<TaskGraph, "nodes" | "edges">,
  stories: readonly ActionStory[],
  key: string,
): unknown {
  const whole = new Map(nodes.map((node, index) => [node.place, { node, story: stories[index]! }]));
  return {
    key,
    requestor: job.requestor,
    tag: job.tag,
    priority: job.priority,
    tasks: [...whole.values()].map(({ node, story }) => {
      const { program, inputRoot } = story;
      if (program === undefined) {
        throw new Error(`Cannot run it again as the command of ${node.name} must be there: it is not kept any more.`);
      }
      const from = edges.find(([, to]) => to === node.place)?.[0];
      const needed = from === undefined ? undefined : whole.get(from)?.node.name;
      return {
        name: node.name,
        argv: program.argv,
        env: program.env,
        outputs: program.outputs,
        input: needed !== undefined
          ? { kind: "task", task: needed }
          : inputRoot === undefined
          ? { kind: "empty" }
          : { kind: "snapshot", snapshot: inputRoot },
        timeoutMs: story.timeoutMs,
        platform: Object.fromEntries(program.platform.map(({ name, value }) => [name, value])),
        cache: story.use,
      };
    }),
  };
}

/** Asks all that is needed for {@link jobAgain}. */
export async function askAgain(jobId: string, key: string): Promise<unknown> {
  const [{ job }, graph] = await Promise.all([
    ask<{ readonly job: JobView }>("/v1/inspect/job", { id: jobId }),
    inspect("graph", { id: jobId }),
  ]);
  const stories: ActionStory[] = [];
  for (const { taskId } of graph.nodes) stories.push(await inspect("action", { task: taskId }));
  return jobAgain(job, graph, stories, key);
}
