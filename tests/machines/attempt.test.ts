import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Digest, digestOfHash } from "../../src/domain/digest.ts";
import { jobId, taskId } from "../../src/domain/ids.ts";
import type { Outcome } from "../../src/domain/job.ts";
import { type AttemptContext, type AttemptEvent, attemptMachine } from "../../src/machines/attempt.ts";
import { type Running, running, typesOf } from "./running.ts";

const id = taskId(jobId("j0123456789-000000"), 0);
const output: Digest = digestOfHash("b".repeat(64), 7);
const input = {
  taskId: id,
  attempt: 2,
  command: digestOfHash("c".repeat(64), 9),
  inputRoot: digestOfHash("a".repeat(64), 3),
  timeoutMs: 1_000,
  atMs: 10,
};
const newAttempt = (): Running<AttemptContext, AttemptEvent> => running(attemptMachine, input);

const started: AttemptEvent = { type: "attempt.started", atMs: 20 };
const exited: Outcome = { kind: "exited", exitCode: 0, startedAtMs: 20, endedAtMs: 30 };
const finished = (ending: Outcome = exited): AttemptEvent => ({ type: "attempt.finished", ending });
const captured: AttemptEvent = { type: "attempt.captured", leavings: { output } };
const failed: AttemptEvent = { type: "attempt.failed", fault: { code: "CHECKOUT_FAILED", message: "no such blob" } };
const drop: AttemptEvent = { type: "attempt.drop", reason: "It was killed" };
const acknowledged: AttemptEvent = { type: "attempt.acknowledged" };

describe("an attempt", () => {
  test("checks out, runs, captures, ends, and is over when its result was acknowledged", () => {
    const attempt = newAttempt();
    expect(attempt.path).toBe("checkingOut");
    expect(attempt.said).toEqual([{ type: "effect.run", to: "effects", attempt: input }]);
    expect(attempt.hear(started).path).toBe("running");
    expect(typesOf(attempt.said)).toEqual(["attempt.changed"]);
    expect(attempt.hear(finished()).path).toBe("capturing");
    expect(attempt.said).toMatchObject([{ type: "effect.capture", taskId: id, attempt: 2, ending: exited }]);
    expect(attempt.hear(captured).path).toBe("ended");
    expect(attempt.context.outcome).toEqual({ ...exited, output });
    expect(typesOf(attempt.said)).toEqual(["attempt.changed"]);
    expect(attempt.hear(acknowledged).path).toBe("over");
    expect(typesOf(attempt.said)).toEqual(["effect.clean"]);
  });

  test("whose checkout failed has failed with that fault", () => {
    const attempt = newAttempt().hear(failed);
    expect(attempt.path).toBe("ended");
    expect(attempt.context.outcome).toMatchObject({ kind: "failed", fault: { code: "CHECKOUT_FAILED" } });
  });

  test("whose capture went wrong has failed, with what could be kept", () => {
    const fault = { code: "OUTPUT_MISSING", message: "no out/" } as const;
    const stdout = { digest: output, truncatedBytes: 0 };
    const attempt = newAttempt().hear(started, finished(), { type: "attempt.captured", leavings: { stdout }, fault });
    expect(attempt.context.outcome).toEqual({ kind: "failed", fault, stdout });
  });

  test.each<[string, readonly AttemptEvent[]]>([["while it checks out", []], ["while it runs", [started]]])(
    "that is dropped %s is stopped once, and was killed",
    (_, before) => {
      const attempt = newAttempt().hear(...before, drop);
      expect(attempt.said).toEqual([{
        type: "effect.stop",
        to: "effects",
        taskId: id,
        attempt: 2,
        reason: "It was killed",
      }]);
      attempt.hear({ type: "attempt.drop", reason: "again" });
      expect(attempt.isUnchanged).toBe(true);
      attempt.hear(failed);
      expect(attempt.context.outcome).toEqual({ kind: "killed", reason: "It was killed" });
    },
  );

  test("that is dropped when its command has ended delivers its result", () => {
    const attempt = newAttempt().hear(started, finished(), drop, captured);
    expect(attempt.context.outcome).toMatchObject({ kind: "exited", exitCode: 0 });
    expect(attempt.hear(drop).isUnchanged).toBe(true);
  });

  test("keeps its result until it is acknowledged, and is not over before it has one", () => {
    const attempt = newAttempt().hear(acknowledged, started, acknowledged, finished(), acknowledged);
    expect(attempt.path).toBe("capturing");
  });

  test("begins each of its effects at most once, whatever it hears, and never changes its result", () => {
    const event = fc.constantFrom<AttemptEvent>(
      started,
      finished(),
      finished({ kind: "timedOut", timeoutMs: 1_000 }),
      finished({ kind: "killed", reason: "x" }),
      captured,
      { type: "attempt.captured", leavings: {}, fault: { code: "OUTPUT_MISSING", message: "x" } },
      failed,
      drop,
      acknowledged,
    );
    fc.assert(fc.property(fc.array(event, { maxLength: 30 }), (events) => {
      const attempt = newAttempt();
      const effects = typesOf(attempt.said).slice();
      let outcome: Outcome | undefined;
      for (const one of events) {
        attempt.hear(one);
        effects.push(...typesOf(attempt.said).filter((type) => type.startsWith("effect.")));
        if (outcome !== undefined) expect(attempt.context.outcome).toEqual(outcome);
        outcome = attempt.context.outcome;
        expect(outcome !== undefined).toBe(attempt.path === "ended" || attempt.path === "over");
      }
      expect(new Set(effects).size).toBe(effects.length);
    }));
  });
});
