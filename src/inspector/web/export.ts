import type { Chart } from "../charts.ts";
import type { SpokenLine } from "../conversation.ts";
import type { TaskGraph } from "../routes.ts";
import { save } from "./deeds.ts";
import { h } from "./dom.ts";

/** Drawings as files: what is on the page as SVG, what it means as Mermaid. */

const styled = [
  "fill",
  "fill-opacity",
  "stroke",
  "stroke-width",
  "stroke-dasharray",
  "stroke-opacity",
  "font-family",
  "font-size",
  "font-weight",
  "text-anchor",
] as const;

/** A drawing that looks the same without this page's style sheet. */
export function svgText(drawing: SVGElement): string {
  const copy = drawing.cloneNode(true) as SVGElement;
  const [from, to] = [[drawing, ...drawing.querySelectorAll("*")], [copy, ...copy.querySelectorAll("*")]];
  from.forEach((element, place) => {
    const style = getComputedStyle(element);
    for (const name of styled) to[place]!.setAttribute(name, style.getPropertyValue(name));
    to[place]!.removeAttribute("class");
    to[place]!.removeAttribute("tabindex");
    if (to[place]!.localName === "a") to[place]!.removeAttribute("href");
  });
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  const ground = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  ground.setAttribute("width", "100%");
  ground.setAttribute("height", "100%");
  ground.setAttribute("fill", getComputedStyle(document.documentElement).backgroundColor);
  copy.prepend(ground);
  return new XMLSerializer().serializeToString(copy);
}

const named = (text: string): string => text.replace(/["\n\r`]/g, "'").replace(/[<>#;]/g, " ");

export function graphMermaid({ nodes, edges }: Pick<TaskGraph, "nodes" | "edges">): string {
  return [
    "flowchart LR",
    ...nodes.map(({ place, name, state, result }) => `  t${place}["${named(name)}<br>${result ?? state}"]`),
    ...edges.map(([from, to]) => `  t${from} --> t${to}`),
  ].join("\n") + "\n";
}

export function sequenceMermaid(members: readonly string[], messages: readonly SpokenLine[]): string {
  const place = new Map(members.map((member, index) => [member, `m${index}`]));
  return [
    "sequenceDiagram",
    ...members.map((member) => `  participant ${place.get(member)} as ${named(member)}`),
    ...messages.flatMap(({ from, to, type, seq }) => {
      const [a, b] = [place.get(from), place.get(to)];
      return a === undefined || b === undefined ? [] : [`  ${a}->>${b}: ${named(type)} (${seq})`];
    }),
  ].join("\n") + "\n";
}

export function chartMermaid({ states, arrows }: Chart): string {
  const id = (path: string): string => path === "" ? "anywhere" : path.replaceAll(".", "_");
  const lines = ["stateDiagram-v2"];
  const within = (outer: string, pad: string): void => {
    for (const { path, name, isOuter, isInitial, isFinal } of states) {
      const parent = path.includes(".") ? path.slice(0, path.lastIndexOf(".")) : "";
      if (path === "" || parent !== outer) continue;
      if (isOuter) {
        lines.push(`${pad}state "${named(name)}" as ${id(path)} {`);
        within(path, `${pad}  `);
        lines.push(`${pad}}`);
      } else lines.push(`${pad}state "${named(name)}" as ${id(path)}`);
      if (isInitial) lines.push(`${pad}[*] --> ${id(path)}`);
      if (isFinal) lines.push(`${pad}${id(path)} --> [*]`);
    }
  };
  within("", "  ");
  for (const { from, to, event, guard } of arrows) {
    if (from === "" && to !== undefined) lines.push(`  [*] --> ${id(to)} : ${named(event)}`);
    else if (to !== undefined && to !== from) {
      lines.push(
        `  ${id(from)} --> ${id(to)} : ${named(event || "at once")}${guard === "" ? "" : ` (${named(guard)})`}`,
      );
    }
  }
  return lines.join("\n") + "\n";
}

/** @param drawing found on the page when one of these is chosen. */
export const exportButtons = (
  name: string,
  drawing: () => SVGElement | null | undefined,
  mermaid: () => string,
): readonly HTMLElement[] => [
  h("button", {
    class: "small",
    click: () => {
      const found = drawing();
      if (found) save(`${name}.svg`, svgText(found), "image/svg+xml");
    },
  }, "SVG"),
  h("button", { class: "small", click: () => save(`${name}.mmd`, mermaid()) }, "Mermaid"),
];
