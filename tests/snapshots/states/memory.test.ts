import { memoryStates } from "../../../src/snapshots/states/memory.ts";
import { statesContract } from "./contract.ts";

statesContract("memoryStates()", () => Promise.resolve({ states: memoryStates() }));
