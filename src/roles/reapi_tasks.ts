import type { Gateway } from "../api/gateway.ts";
import { Fault } from "../domain/fault.ts";
import { invariant } from "../domain/invariant.ts";
import { taskId } from "../domain/ids.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Tasks } from "../reapi/tasks.ts";

/** After a start of the scheduler, workers that it had before may be on their way back for so long. */
const comingBackMs = 30_000;

/** Runs what clients of the Remote Execution API ask for as jobs of one task each. */
export function tasksOver(gateway: Gateway, clock: Clock): Tasks {
  return {
    accept: ({ key, requestor, tag, priority, inputRoot, ...task }, signal) =>
      gateway.acceptTask({
        key: `reapi/${key}`,
        requestor,
        tag,
        priority,
        basis: "",
        failFast: false,
        tasks: [{ ...task, input: { kind: "snapshot", snapshot: inputRoot }, retries: 0 }],
      }, signal),
    watch: (jobId, signal) => gateway.watchTask(taskId(jobId, 0), signal),
    async *output(jobId, stream, offset, signal) {
      let attempt: number | undefined;
      for await (const piece of gateway.follow({ taskId: taskId(jobId, 0), stream, offset }, signal)) {
        if (piece.kind === "end") return;
        attempt ??= piece.attempt;
        if (piece.attempt !== attempt) {
          throw new Fault(
            "WORKER_LOST",
            `Cannot go on with ${stream} of job ${jobId} as attempt ${attempt} has ended: read that of the next one from its start`,
          );
        }
        yield piece.bytes;
      }
    },
    async kill(jobId, reason) {
      await gateway.ask({ type: "job.kill", jobId, reason });
    },
    async platforms() {
      const [answer, started] = await Promise.all([
        gateway.ask({ type: "worker.list" }),
        gateway.ask({ type: "cluster.get" }),
      ]);
      invariant(answer.type === "worker.views", "a list of workers is asked for");
      invariant(started.type === "cluster.view", "the cluster is asked for");
      if (clock.now() - started.cluster.startedAtMs < comingBackMs) return [];
      return answer.workers.filter(({ state }) => state !== "lost").map(({ platform }) => platform);
    },
  };
}
