import { runMember } from "./member_process.ts";

// What the supervisor of a cluster starts.
void runMember();
