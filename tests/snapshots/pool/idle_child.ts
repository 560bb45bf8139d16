/** Uses a pool and ends without closing it. */
import { threadPool } from "../../../src/snapshots/pool/pool.ts";

const pool = threadPool({ threads: 2 });
console.log(await pool.hashFile(process.argv[2]!));
