import type { AnyStateMachine, MachineSnapshot } from "xstate";
import type { Address } from "../domain/ids.ts";

/**
 * The one place that knows how XState computes. `machine.transition` with one reused scope costs 3 µs an event;
 * XState's exported `transition()` makes a scope a call and costs 8.
 */

// deno-lint-ignore no-explicit-any -- XState's snapshot type has eight parameters that say nothing here
export type Live = MachineSnapshot<any, any, any, any, any, any, any, any>;

/** What an actor saves: where it is and what it knows. Plain data. */
export interface State {
  /** Of XState: "queued", or { active: "running" }. */
  readonly value: unknown;
  // deno-lint-ignore no-explicit-any -- each machine has its own context; readers name the one they expect
  readonly context: any;
}

/** What a machine says: an event for whoever is at `to`. */
export type Message = { readonly type: string; readonly to: Address };

let said: Message[] = [];
const scope = {
  self: { id: "row", sessionId: "row" },
  id: "row",
  sessionId: "row",
  logger: () => {},
  defer: (work: () => void) => work(),
  emit: (message: Message) => void said.push(message),
  stopChild: () => {},
  system: { _sendInspectionEvent: () => {} },
  actionExecutor: (
    action: { exec?: ((info: unknown, params: unknown) => void) | undefined; info: unknown; params: unknown },
  ) => action.exec?.(action.info, action.params),
};
// deno-lint-ignore no-explicit-any -- XState's scope type asks for a live actor system, which a pure step has not
const pureScope = scope as any;

function collect(compute: () => Live): readonly [Live, readonly Message[]] {
  const outer = said;
  said = [];
  try {
    const live = compute();
    // XState turns what a context function or an entry action throws at birth into a snapshot
    if (live.status === "error") throw live.error;
    return [live, said];
  } finally {
    said = outer;
  }
}

/** A new actor. Same input, same answer. */
export const born = (machine: AnyStateMachine, input: unknown): readonly [Live, readonly Message[]] =>
  collect(() => machine.getInitialSnapshot(pureScope, input) as Live);

/**
 * One event. The very same snapshot comes back when it changed nothing.
 *
 * @throws what a guard or an action of the machine throws: a mistake of ours.
 */
export const step = (
  machine: AnyStateMachine,
  live: Live,
  event: { readonly type: string },
): readonly [Live, readonly Message[]] => collect(() => machine.transition(live, event, pureScope) as Live);

export const stateOf = (live: Live): State => ({ value: live.value, context: live.context });

/** Wakes what {@link stateOf} gave; 8 µs. */
export const alive = (machine: AnyStateMachine, state: State): Live =>
  machine.resolveState({ value: state.value as never, context: state.context }) as Live;

/** The path of states as text: "active.running". */
export const pathOf = (value: unknown): string => {
  if (typeof value === "string") return value;
  const [outer, inner] = Object.entries(value as Record<string, unknown>)[0] ?? ["", ""];
  return inner === undefined || inner === "" ? outer : `${outer}.${pathOf(inner)}`;
};
