import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { Fault } from "../domain/fault.ts";
import { readNewest, readToken } from "../roles/ready_file.ts";
import { usage } from "./flags.ts";
import type { Target, World } from "./world.ts";

const howToStart = `start one with "scoot-actors cluster", or name one with --cluster URL or SCOOT_CLUSTER`;

/** What the command line says of the cluster. */
export interface Named {
  readonly cluster: string | undefined;
  readonly tokenFile: string | undefined;
}

/**
 * The cluster to use: `--cluster`, `SCOOT_CLUSTER`, then what this user started last on this machine. Its token:
 * `--token-file`, `SCOOT_TOKEN`, `SCOOT_TOKEN_FILE`, then what the cluster of this user on this machine left.
 *
 * @throws {Fault} `USAGE_INVALID` for a URL that is none; `PEER_UNREACHABLE` when there is no cluster.
 */
export function findCluster(named: Named, world: Pick<World, "env" | "runtimeFolder" | "userDir">): Target {
  const { env, runtimeFolder } = world;
  const given = named.cluster ?? (env["SCOOT_CLUSTER"] || undefined);
  const url = given === undefined
    ? newest(runtimeFolder)
    : originOf(given, named.cluster === undefined ? "SCOOT_CLUSTER" : "--cluster");
  const token = givenToken(named.tokenFile, world) ?? readToken(runtimeFolder, url);
  return { url, ...(token === undefined ? {} : { token }) };
}

function newest(runtimeFolder: string): string {
  const found = readNewest(runtimeFolder);
  if (found === undefined) throw new Fault("PEER_UNREACHABLE", `Cannot find a cluster: ${howToStart}`);
  const { ready, gone } = found;
  if (gone) {
    throw new Fault(
      "PEER_UNREACHABLE",
      `Cannot use the cluster at ${ready.http} as it ended without a word (process ${ready.pid} is gone): ${howToStart}`,
    );
  }
  return ready.http;
}

/** "127.0.0.1:9090" will do for "http://127.0.0.1:9090". */
function originOf(given: string, from: string): string {
  const text = /^[a-z][a-z0-9+.-]*:\/\//i.test(given) ? given : `http://${given}`;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.hostname === "") {
    throw usage(`Cannot use ${from} as it must be a URL such as http://127.0.0.1:9090: current value is "${given}"`);
  }
  return url.origin;
}

function givenToken(
  tokenFile: string | undefined,
  { env, userDir }: Pick<World, "env" | "userDir">,
): string | undefined {
  const token = env["SCOOT_TOKEN"]?.trim() || undefined;
  const path = tokenFile ?? (token === undefined ? env["SCOOT_TOKEN_FILE"] || undefined : undefined);
  if (path === undefined) return token;
  try {
    return readFileSync(resolve(userDir, path), "utf8").trim();
  } catch (cause) {
    throw new Fault("USAGE_INVALID", `Cannot read the token in ${path}: ${(cause as Error).message}`, { cause });
  }
}
