import { existsSync, linkSync, mkdirSync, readFileSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { dirname, join, resolve } from "node:path";
import process from "node:process";
import v8 from "node:v8";
import { asFault, Fault } from "../domain/fault.ts";
import { lineLog, type Log } from "../observability/log.ts";
import { realClock } from "../runtime/clock.ts";
import { randomHex } from "../runtime/random.ts";
import { protocolVersion } from "../protocol/version.ts";
import type { States } from "../snapshots/states/states.ts";
import type { Hello } from "../transport/transport.ts";
import type { NetworkAddress } from "./config.ts";
import { isFolder } from "./this_user.ts";

/** What every role takes from the machine that it runs on. */

/** Below this share of free disk new work is refused, before it breaks old work. */
const freeShareMin = 0.05;
const freeCheckedMs = 1_000;
const pruneEveryMs = 10_000;

/** Whether there is room for new work where `dir` lies; asked of the system at most once a second. */
export function diskSpace(dir: string): () => boolean {
  let checkedAtMs = -Infinity;
  let hasSpace = true;
  return () => {
    const nowMs = realClock.now();
    if (nowMs - checkedAtMs >= freeCheckedMs) {
      checkedAtMs = nowMs;
      const { bavail, blocks } = statfsSync(dir);
      hasSpace = blocks === 0 || bavail / blocks >= freeShareMin;
    }
    return hasSpace;
  };
}

/**
 * Makes a folder, and those above it, for this user alone.
 *
 * @throws {Fault} `INTERNAL` with what the system says.
 */
export function makeDataDir(dir: string): void {
  // Not by `recursive`: under /proc that never returns, and where nothing may be written it says that nothing is there.
  const missing: string[] = [];
  for (let at = resolve(dir); !existsSync(at); at = dirname(at)) missing.unshift(at);
  try {
    for (const at of missing) {
      try {
        mkdirSync(at, { mode: 0o700 });
      } catch (thrown) {
        if (!isFolder(at)) throw thrown; // another was quicker
      }
    }
    if (!isFolder(dir)) throw new Error("it must be a folder");
  } catch (thrown) {
    throw asFault(thrown, `Cannot use ${dir} as the data folder`);
  }
}

/** The address of a port for a browser; of one that all of a machine's addresses have, by the machine's name. */
export function originOf({ host, port }: NetworkAddress): string {
  const shown = ["0.0.0.0", "::"].includes(host) ? hostname() : host;
  return `http://${shown.includes(":") ? `[${shown}]` : shown}:${port}`;
}

/** The token that may only look is made of the token: whoever is given it could find a short one by trying. */
const tokenCharactersMin = 32;

/**
 * The secret that members and clients of this cluster share: made at the first start, a file that only its user reads.
 *
 * @throws {Fault} `TOKEN_INVALID` for a file whose token is shorter than 32 characters.
 */
export function readOrMakeToken(path: string): string {
  const read = (): string => {
    const token = readFileSync(path, "utf8").trim();
    if (token.length >= tokenCharactersMin) return token;
    throw new Fault(
      "TOKEN_INVALID",
      `Cannot use the token in ${path} as it must have at least ${tokenCharactersMin} characters: current value has ${token.length}. Remove the file, and one is made`,
    );
  };
  try {
    return read();
  } catch (thrown) {
    if ((thrown as { code?: unknown }).code !== "ENOENT") throw thrown;
  }
  mkdirSync(join(path, ".."), { recursive: true });
  // Whole before it has its name, so that another member never reads a part of it.
  const beside = `${path}.${process.pid}.${randomHex(4)}`;
  try {
    writeFileSync(beside, `${randomHex(32)}\n`, { mode: 0o600, flag: "wx" });
    linkSync(beside, path);
  } catch (thrown) {
    if ((thrown as { code?: unknown }).code !== "EEXIST") throw thrown; // another member was quicker
  } finally {
    rmSync(beside, { force: true });
  }
  return read();
}

export const helloOf = (role: Hello["role"], memberId: string, token?: string): Hello => ({
  protocol: "scoot-actors",
  version: protocolVersion,
  role,
  memberId,
  incarnation: randomHex(8),
  ...(token === undefined ? {} : { token }),
});

/**
 * Keeps V8's heap small, for a process whose many small objects live long: its nursery stays as it is now, and garbage is
 * looked for when what survived the last look has grown by three quarters. 100,000 queued tasks then take 0.13 GB after a
 * restart instead of 0.25; it costs a few per cent of the time. (A bound on the nursery comes too late once V8 has started.)
 */
export function keepHeapSmall(): void {
  v8.setFlagsFromString("--semi-space-growth-factor=1");
  v8.setFlagsFromString("--heap-growing-percent=75");
}

/**
 * For a process whose states can be saved no more. The host has said why; whoever keeps this process starts a new one,
 * which goes on from what is saved.
 */
export const endBroken = (): never => process.exit(1);

/** Keeps the history of states within its bounds. @returns what ends it. */
export function keepPruned(
  states: States,
  limits: { readonly historyMs: number; readonly historyBytesMax: number },
  log: Log,
): () => void {
  let isEnded = false;
  let cancel = (): void => {};
  const prune = async (): Promise<void> => {
    try {
      await states.prune({ beforeMs: realClock.now() - limits.historyMs, bytesMax: limits.historyBytesMax });
    } catch (thrown) {
      if (!isEnded) log.error("Cannot prune the history; trying again", { error: thrown });
    }
    if (!isEnded) cancel = realClock.at(realClock.now() + pruneEveryMs, () => void prune());
  };
  void prune();
  return () => {
    isEnded = true;
    cancel();
  };
}

/** Between dials of members to each other: a restart of a few hundred ms is to be noticed as soon as it is over. */
export const memberBackoff = { firstMs: 50, maxMs: 500 } as const;

/** Lines on stderr. */
export const stderrLog = (who: string): Log =>
  lineLog(who, realClock.now, (line) => void process.stderr.write(`${line}\n`));

/** A turn of the event loop later: after sockets and files had theirs. */
export const defer = (work: () => void): void => void setImmediate(work);
