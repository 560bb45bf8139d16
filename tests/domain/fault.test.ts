import { describe, expect, test } from "vitest";
import { asFault, Fault, faultData, faults } from "../../src/domain/fault.ts";

/** google.rpc.Code, less OK and UNKNOWN: a fault of ours is always one of these. */
const grpcCodes = new Set([
  "CANCELLED",
  "INVALID_ARGUMENT",
  "DEADLINE_EXCEEDED",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "PERMISSION_DENIED",
  "UNAUTHENTICATED",
  "RESOURCE_EXHAUSTED",
  "FAILED_PRECONDITION",
  "ABORTED",
  "OUT_OF_RANGE",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
]);

describe("the table of faults", () => {
  test.each(Object.entries(faults))("%s has a gRPC code that exists and an HTTP code of a failure", (_, meaning) => {
    expect(grpcCodes.has(meaning.grpc)).toBe(true);
    expect(meaning.http).toBeGreaterThanOrEqual(400);
    expect(meaning.http).toBeLessThan(600);
  });
});

describe("asFault()", () => {
  test("lets faults pass", () => {
    const fault = new Fault("JOB_UNKNOWN", "Cannot find it");
    expect(asFault(fault, "Cannot do more")).toBe(fault);
  });

  test.each(["ENOSPC", "EDQUOT"])("calls %s a full disk", (code) => {
    expect(asFault(Object.assign(new Error("write"), { code }), "Cannot capture a").code).toBe("NO_SPACE");
  });

  test("calls all else INTERNAL, says what was being done, and keeps the first failure", () => {
    const cause = new Error("boom");
    const fault = asFault(cause, "Cannot capture a");
    expect(faultData(fault)).toEqual({ code: "INTERNAL", message: "Cannot capture a: boom" });
    expect(fault.cause).toBe(cause);
    expect(asFault("a text").message).toBe("a text");
    expect(asFault(null).code).toBe("INTERNAL");
  });
});
