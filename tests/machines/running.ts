import type { AnyStateMachine } from "xstate";
import { alive, born, type Message, pathOf, type State, stateOf, step } from "../../src/machines/step.ts";

/** One actor as a host would run it: at rest between any two events, so that whatever is lost in JSON shows. */
export interface Running<Context, Event extends { readonly type: string }> {
  readonly path: string;
  readonly context: Context;
  readonly state: State;
  /** What it said to the last event, or at its birth. */
  readonly said: readonly Message[];
  /** Whether the last event changed nothing. */
  readonly isUnchanged: boolean;
  hear(...events: readonly Event[]): Running<Context, Event>;
}

export function running<Context, Event extends { readonly type: string }>(
  machine: AnyStateMachine,
  input: unknown,
): Running<Context, Event> {
  const [live, said] = born(machine, input);
  let saved = stateOf(live);
  let lastSaid = said;
  let isUnchanged = false;
  const actor: Running<Context, Event> = {
    get path() {
      return pathOf(saved.value);
    },
    get context() {
      return saved.context as Context;
    },
    get state() {
      return saved;
    },
    get said() {
      return lastSaid;
    },
    get isUnchanged() {
      return isUnchanged;
    },
    hear(...events) {
      for (const event of events) {
        const before = alive(machine, JSON.parse(JSON.stringify(saved)) as State);
        const [after, messages] = step(machine, before, event);
        isUnchanged = after === before;
        saved = stateOf(after);
        lastSaid = messages;
      }
      return actor;
    },
  };
  return actor;
}

/** Types of what was said, in order. */
export const typesOf = (said: readonly Message[]): readonly string[] => said.map((message) => message.type);
