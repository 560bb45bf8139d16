import type { AnyStateNode } from "xstate";

/** "active.running"; the machine itself is "". */
export const pathOf = (node: AnyStateNode): string => node.path.join(".");

/** Of a guard or an action; "" has none. */
export const nameOf = (thing: unknown): string =>
  typeof thing === "string"
    ? thing
    : typeof thing === "object" && thing !== null && "type" in thing
    ? String(thing.type)
    : "";
