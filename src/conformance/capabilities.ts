import { methods } from "../protocol/reapi/services.ts";
import { expectCode, expectThat } from "./client.ts";
import type { Check } from "./run.ts";

/** Parts 1 and 2: gRPC basics, Capabilities. */
export const checks: readonly Check[] = [
  {
    id: "T-7",
    says: "an unknown method is UNIMPLEMENTED",
    holds: (client) =>
      expectCode(
        client.unary({ ...methods.getCapabilities, path: "/build.bazel.remote.execution.v2.Nothing/Nothing" }, {}),
        "UNIMPLEMENTED",
      ),
  },
  {
    id: "C-1",
    says: "low_api_version is 2.0",
    async holds(client) {
      const { lowApiVersion } = await client.unary(methods.getCapabilities, {});
      expectThat(
        lowApiVersion?.major === 2 && lowApiVersion.minor === 0,
        `it is ${lowApiVersion?.major}.${lowApiVersion?.minor}`,
      );
    },
  },
  {
    id: "C-6",
    says: "SHA256 is the first digest function of the cache",
    async holds(client) {
      const { cacheCapabilities } = await client.unary(methods.getCapabilities, {});
      expectThat(
        cacheCapabilities?.digestFunctions[0] === 1,
        `they are ${cacheCapabilities?.digestFunctions.join(", ")}`,
      );
    },
  },
  {
    id: "C-8",
    says: "max_batch_total_size_bytes is neither 0 nor above 4 MiB",
    async holds(client) {
      const max = (await client.unary(methods.getCapabilities, {})).cacheCapabilities?.maxBatchTotalSizeBytes ?? 0;
      expectThat(max > 0 && max <= 2 ** 22, `it is ${max}`);
    },
  },
];
