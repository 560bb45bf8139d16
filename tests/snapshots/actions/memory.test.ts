import { realClock } from "../../../src/runtime/clock.ts";
import { memoryActions } from "../../../src/snapshots/actions/memory.ts";
import { actionsContract } from "./contract.ts";

actionsContract("memoryActions()", (blobs) => memoryActions({ blobs, clock: realClock }));
