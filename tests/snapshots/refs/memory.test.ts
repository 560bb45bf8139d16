import { memoryRefs } from "../../../src/snapshots/refs/memory.ts";
import { refsContract } from "./contract.ts";

refsContract("memoryRefs()", memoryRefs);
