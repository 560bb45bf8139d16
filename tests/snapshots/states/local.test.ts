import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { realClock } from "../../../src/runtime/clock.ts";
import { localStates } from "../../../src/snapshots/states/local.ts";
import { statesContract } from "./contract.ts";

statesContract("localStates()", async () => {
  const dir = await mkdtemp(join(tmpdir(), "states-"));
  const options = { dir, clock: realClock, segmentBytes: 2000 };
  let states = await localStates(options);
  return {
    get states() {
      return states;
    },
    async reopen() {
      await states.close();
      states = await localStates(options);
      return states;
    },
    remove: () => rm(dir, { recursive: true }),
  };
});
