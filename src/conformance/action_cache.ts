import { methods } from "../protocol/reapi/services.ts";
import { digestOfBytes, expectCode, newBytes } from "./client.ts";
import type { Check } from "./run.ts";

/** Part 9: the action cache. */
export const checks: readonly Check[] = [
  {
    id: "A-1",
    says: "a miss is NOT_FOUND",
    holds: (client) =>
      expectCode(client.unary(methods.getActionResult, { actionDigest: digestOfBytes(newBytes()) }), "NOT_FOUND"),
  },
];
