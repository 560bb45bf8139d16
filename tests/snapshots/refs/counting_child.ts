/** Adds 1 to the ref "count" so many times by compareAndSet, trying again after each conflict. */
import { isFault } from "../../../src/domain/fault.ts";
import { lmdbRefs } from "../../../src/snapshots/refs/lmdb.ts";

const [dir = "", times = "0"] = process.argv.slice(2);
const refs = lmdbRefs({ dir });
console.log("ready");
for (let done = 0; done < Number(times);) {
  const now = await refs.get("count");
  try {
    await refs.compareAndSet("count", now, String(Number(now ?? 0) + 1));
    done++;
  } catch (error) {
    if (!isFault(error, "REF_CONFLICT")) throw error;
  }
}
await refs.close();
