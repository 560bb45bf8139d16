import { text, toggle } from "./flags.ts";

/** What the roles of a cluster of several machines have in common. Their values are read by roles/config.ts. */
export const roleFlags = {
  data: text("DIR", "Where everything is kept (SCOOT_DATA); ~/.local/state/scoot-actors by default"),
  listen: text("HOST:PORT", "Where to listen (SCOOT_LISTEN)"),
  scheduler: text("HOST:PORT", "Where the scheduler is (SCOOT_SCHEDULER); 127.0.0.1:9091 by default"),
  "token-file": text(
    "FILE",
    "The token that members of the cluster and clients show each other (SCOOT_TOKEN_FILE); token in the data folder by default, made if it is not there",
  ),
  "allow-network": toggle(
    "Let --listen be an address that other machines reach; whoever has the token can run commands as you (SCOOT_ALLOW_NETWORK)",
  ),
} as const;

/** Of whoever keeps blobs for others. */
export const storeFlags = {
  instances: text(
    "NAMES",
    "Instance names that Bazel and its cousins may use (SCOOT_INSTANCES), with commas; an empty one is that without a name. Any by default",
  ),
  "any-result": toggle(
    "Let /ac/ of the HTTP cache hold any bytes, for ccache and its like, not only action results (SCOOT_ANY_RESULT)",
  ),
  "max-size": text("SIZE", "All that is stored takes at most so much (SCOOT_MAX_SIZE); 20G by default"),
} as const;

type FlagValue = string | boolean | readonly string[];

/** The flags that were typed: of the others the environment may have something to say. */
export const typed = (flags: Readonly<Record<string, FlagValue | undefined>>): Record<string, FlagValue | undefined> =>
  Object.fromEntries(
    Object.entries(flags).filter(([, value]) => value !== false && !(Array.isArray(value) && value.length === 0)),
  );
