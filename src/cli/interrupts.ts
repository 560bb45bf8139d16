import { exitCodes } from "./exit_codes.ts";
import type { World } from "./world.ts";

/** A Ctrl-C may reach a program more than once, through those that started it: so close together, they are one. */
const oneSignalMs = 1_000;

const signalCodes = { SIGINT: exitCodes.interrupted, SIGTERM: 143, SIGHUP: 129 } as const;

/** The wish of the user to end. */
export interface Interrupts {
  /** Aborted by the first signal: end what was begun in good order. */
  readonly first: AbortSignal;
  /** What to exit with once {@link first} is aborted. */
  exitCode(): number;
  /** Resolves to the exit code at the second signal: leave at once. */
  readonly leave: Promise<number>;
  close(): void;
}

export function watchInterrupts(world: Pick<World, "onSignal" | "clock">): Interrupts {
  const first = new AbortController();
  let firstAtMs = 0;
  let code: number = exitCodes.interrupted;
  let leaveNow: (code: number) => void;
  const leave = new Promise<number>((resolve) => {
    leaveNow = resolve;
  });
  const off = world.onSignal((signal) => {
    const now = world.clock.now();
    if (!first.signal.aborted) {
      firstAtMs = now;
      code = signalCodes[signal];
      first.abort(new DOMException(`${signal} was received`, "AbortError"));
    } else if (now - firstAtMs >= oneSignalMs) leaveNow(code);
  });
  return { first: first.signal, exitCode: () => code, leave, close: off };
}
