import { memoryBlobs } from "../../../src/snapshots/blobs/memory.ts";
import { blobsContract } from "./contract.ts";

blobsContract("memoryBlobs()", memoryBlobs);
