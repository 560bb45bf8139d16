import { inspect, Refusal } from "./data.ts";
import { mayAct, setWorker } from "./deeds.ts";
import { h } from "./dom.ts";
import { badge, facts, link, section, sentence, table, time } from "./parts.ts";
import { linkTo } from "./place.ts";
import { asideOf } from "./page_cluster.ts";
import type { Page } from "./shown.ts";

/** One worker: what it is, what it runs, and whether it is given more. */
export const workerPage: Page = async ({ subject, at }) => {
  const [found, actor] = await Promise.all([
    inspect("overview", { at }),
    inspect("actor", { address: `worker/${subject}`, at }),
  ]);
  const worker = found.workers.find(({ workerId }) => workerId === subject);
  if (worker === undefined) throw new Refusal("ACTOR_UNKNOWN", `There is no worker ${subject} at this moment.`);
  const lines = await Promise.all(
    worker.tasks.slice(0, 64).map((task) => inspect("actor", { address: `task/${task}`, at }).catch(() => undefined)),
  );
  const tasks = lines.filter((line) => line !== undefined);
  const aside = asideOf(worker);
  return {
    title: `Worker ${subject}`,
    moment: found.moment,
    isPart: !found.isCounted,
    says: `Worker ${subject} is ${aside}. ${worker.why}`,
    previousSeq: actor.previousSeq,
    nextSeq: actor.nextSeq,
    watch: [`worker/${subject}`, "task/"],
    content: [
      h(
        "div",
        { class: "head" },
        h("h1", {}, "Worker ", subject, " ", badge(aside)),
        h(
          "div",
          { class: "buttons" },
          mayAct(at) && worker.offline === undefined &&
            h("button", { class: "grave", click: () => setWorker(subject, "offline") }, "Set aside"),
          mayAct(at) && (worker.offline !== undefined || worker.flaky !== undefined) &&
            h("button", { class: "main", click: () => setWorker(subject, "reinstate") }, "Reinstate"),
          h("a", { class: "button", href: linkTo("actor", `worker/${subject}`, { at }) }, "Chart and history"),
        ),
      ),
      h("div", { class: `why is-${aside}` }, h("p", { class: "sentence" }, sentence(worker.why))),
      facts([
        ["Slots", found.isCounted ? `${worker.busy} of ${worker.slots} taken` : String(worker.slots)],
        ["So since", time(worker.sinceMs)],
        ["Isolation", worker.isolation],
        [
          "Platform",
          Object.entries(worker.platform).map(([name, value]) => `${name}=${value}`).join(", ") || "nothing said",
        ],
      ]),
      section(
        "slots",
        "What it runs",
        table(
          "Tasks",
          ["Task", "State", "Why here", "Since"],
          tasks.map((task) => [
            link(linkTo("actor", task.address, { at }), task.address.slice(5)),
            badge(task.state),
            task.why,
            time(task.atMs),
          ]),
          "Nothing: its slots are free.",
        ),
      ),
    ],
  };
};
