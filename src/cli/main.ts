import { program } from "./program.ts";
import { realWorld } from "./real_world.ts";

// Ends here, whatever is still open: everything that counts was awaited, and a forgotten socket must hold nobody up.
process.exit(await program(process.argv.slice(2), realWorld()));
