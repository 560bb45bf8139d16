import { Refusal, token } from "./data.ts";
import { confirm } from "./dialog.ts";
import { go } from "./parts.ts";
import { linkTo } from "./place.ts";
import type { Session } from "../routes.ts";

/** What a reader may do to the cluster, each after a question. */

async function send(method: string, path: string, body?: unknown): Promise<Response> {
  const response = await fetch(path, {
    method,
    headers: {
      authorization: `Bearer ${token.get()}`,
      ...(body === undefined ? {} : { "content-type": "application/json" }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  }).catch(() => {
    throw new Refusal("PEER_UNREACHABLE", "The cluster does not answer. Try again in a moment.");
  });
  if (response.ok) return response;
  const { code, message } = await response.json().catch(() => ({ code: "INTERNAL", message: response.statusText }));
  throw new Refusal(code, message);
}

export const killJob = (jobId: string, name: string): void =>
  confirm({
    title: `Kill ${name}?`,
    text: "Its tasks that run are stopped, and those that wait are not begun. What has ended stays.",
    does: "Kill the job",
    reason: "killed in the browser",
    isGrave: true,
    act: async (reason) => void await send("DELETE", `/v1/jobs/${jobId}?reason=${encodeURIComponent(reason)}`),
  });

export const setWorker = (workerId: string, way: "offline" | "reinstate"): void =>
  confirm({
    title: way === "offline" ? `Set ${workerId} aside?` : `Give ${workerId} tasks again?`,
    text: way === "offline"
      ? "It is given nothing more until it is reinstated. What it runs goes on."
      : "It is given tasks again as soon as some wait.",
    does: way === "offline" ? "Set it aside" : "Reinstate it",
    reason: `${way === "offline" ? "set aside" : "reinstated"} in the browser`,
    act: async (reason) =>
      void await send(
        "POST",
        `/v1/workers/${encodeURIComponent(workerId)}/${way}?reason=${encodeURIComponent(reason)}`,
      ),
  });

/** @param task its place, when it is but that one that is run once more. */
export const runAgain = (jobId: string, name: string, task?: number): void =>
  confirm({
    title: `Run ${name} again?`,
    text: task === undefined
      ? "A new job of the same commands on the same inputs. What succeeded is known and is not run; the rest is."
      : "A new job of the same command on the same input, and it is run whatever is known of it.",
    does: "Run it again",
    async act() {
      const query = task === undefined ? "" : `?task=${task}`;
      const { jobId: next } = await (await send("POST", `/v1/jobs/${jobId}/rerun${query}`)).json();
      go(linkTo("job", next));
    },
  });

/** Gives the browser a file of the cluster's to keep. */
export async function download(path: string, name: string): Promise<void> {
  save(name, await (await send("GET", path)).blob());
}

export function save(name: string, content: Blob | string, type = "text/plain"): void {
  const url = URL.createObjectURL(typeof content === "string" ? new Blob([content], { type }) : content);
  const anchor = document.createElement("a");
  anchor.href = url;
  anchor.download = name;
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** What of this page may be done: unknown is as if nothing may. */
export const session: { now: Session } = { now: { isReadOnly: true, isSealed: false, version: "" } };
export const mayAct = (at: number | undefined): boolean =>
  at === undefined && !session.now.isReadOnly && !session.now.isSealed;
