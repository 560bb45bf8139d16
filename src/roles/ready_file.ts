import { randomBytes } from "node:crypto";
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { Fault } from "../domain/fault.ts";
import { isAlive, isFolder, isLoopback } from "./this_user.ts";

/**
 * How a cluster of this machine is found by its user. A running cluster leaves in a folder that only the user may enter
 *
 *     ready.json                what the cluster that started last says of itself
 *     <port>.json <port>.token  the same for each cluster, and what it asks of clients: for `--cluster URL`
 *
 * and removes them when it stops. What a killed one left is known by its dead process, and swept by the next.
 */

const url = (protocol: string) => v.pipe(v.string(), v.maxLength(300), v.startsWith(protocol), v.url());

const readySchema = v.strictObject({
  /** For people, browsers and the typed client: "http://127.0.0.1:9090". */
  http: url("http://"),
  /** For Bazel: "grpc://127.0.0.1:9090". */
  grpc: url("grpc://"),
  /** SIGTERM stops the whole cluster. */
  pid: v.pipe(v.number(), v.safeInteger(), v.minValue(1)),
  version: v.pipe(v.string(), v.minLength(1), v.maxLength(40)),
  /** The folder in which it keeps all: absolute. */
  data: v.exactOptional(v.pipe(v.string(), v.startsWith("/"))),
});

/** What a running cluster says of itself: the whole ready file. */
export type Ready = v.InferOutput<typeof readySchema>;

const fileBytesMax = 4096;

export interface ReadyPlaces {
  /** As `runtimeFolder` says; made if need be. */
  readonly folder: string;
  /** A file that the user asked for. It appears last, and whole. */
  readonly readyFile?: string;
}

/**
 * Tells this machine's user that the cluster is ready.
 *
 * @throws {Fault} `PATH_INVALID` when the folder belongs to somebody else or is none: what lies there must not be trusted.
 */
export function publishReady(places: ReadyPlaces, ready: Ready, token: string): void {
  const { folder } = places;
  claimFolder(folder);
  sweep(folder);
  const text = `${JSON.stringify(v.parse(readySchema, ready))}\n`;
  writeWhole(join(folder, `${portOf(ready)}.token`), `${token}\n`);
  writeWhole(join(folder, `${portOf(ready)}.json`), text);
  writeWhole(join(folder, "ready.json"), text);
  if (places.readyFile !== undefined) writeWhole(places.readyFile, text);
}

/** Takes back what {@link publishReady} told, where it is still this cluster that it tells of. Never throws. */
export function withdrawReady(places: ReadyPlaces, ready: Ready): void {
  const own = join(places.folder, `${portOf(ready)}.json`);
  const files = [join(places.folder, "ready.json"), own, ...(places.readyFile === undefined ? [] : [places.readyFile])];
  if (isOurs(own, ready)) rmSync(join(places.folder, `${portOf(ready)}.token`), { force: true });
  for (const path of files) if (isOurs(path, ready)) rmSync(path, { force: true });
}

/**
 * A ready file, or undefined when there is none.
 *
 * @throws {Fault} `PATH_INVALID` when it belongs to another user or is no ready file.
 */
export function readReady(path: string): Ready | undefined {
  const text = readOwn(path);
  if (text === undefined) return undefined;
  try {
    return v.parse(readySchema, JSON.parse(text));
  } catch (cause) {
    throw new Fault("PATH_INVALID", `Cannot read ${path} as it must be the ready file of a cluster: it is not one`, {
      cause,
    });
  }
}

/**
 * The cluster that started last of those that run. When there are only such as were killed and left their files, the
 * last of them, as `gone`.
 */
export function readNewest(
  folder: string,
  isRunning: (pid: number) => boolean = isAlive,
): { readonly ready: Ready; readonly gone: boolean } | undefined {
  const newest = readReady(join(folder, "ready.json"));
  if (newest !== undefined && isRunning(newest.pid)) return { ready: newest, gone: false };
  const running = portsIn(folder)
    .flatMap((port) => {
      const path = join(folder, `${port}.json`);
      const ready = readReady(path);
      return ready !== undefined && isRunning(ready.pid) ? [{ ready, atMs: statSync(path).mtimeMs }] : [];
    })
    .sort((a, b) => b.atMs - a.atMs)[0];
  if (running !== undefined) return { ready: running.ready, gone: false };
  return newest === undefined ? undefined : { ready: newest, gone: true };
}

/**
 * What the running cluster at `http` asks of its clients, if it is one of this user on this machine. A token is only
 * given for a cluster whose process lives: whoever took over its port must not get it.
 */
export function readToken(folder: string, http: string): string | undefined {
  const { hostname, port } = new URL(http);
  if (!isLoopback(hostname)) return undefined;
  const entry = join(folder, `${port === "" ? 80 : port}`);
  const ready = readReady(`${entry}.json`);
  if (ready === undefined || !isAlive(ready.pid)) return undefined;
  return readOwn(`${entry}.token`)?.trim();
}

const portOf = (ready: Ready): number => Number(new URL(ready.http).port || 80);

function isOurs(path: string, ready: Ready): boolean {
  try {
    const there = readReady(path);
    return there !== undefined && there.pid === ready.pid && there.http === ready.http;
  } catch {
    return false;
  }
}

/** Windows has no owners of this kind: there the user's own temporary folder is the guard. */
const isOwner = (uid: number): boolean => process.getuid === undefined || uid === process.getuid();

function claimFolder(folder: string): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const found = lstatSync(folder);
  if (!found.isDirectory() || !isOwner(found.uid)) {
    throw new Fault(
      "PATH_INVALID",
      `Cannot use ${folder} as it must be a folder of yours: it is ${
        found.isDirectory() ? `user ${found.uid}'s` : "no folder"
      }. Remove it, or point XDG_RUNTIME_DIR elsewhere`,
    );
  }
  if ((found.mode & 0o077) !== 0) chmodSync(folder, 0o700);
}

/** The text of a small file, unless another user could have put it there. */
function readOwn(path: string): string | undefined {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined) return undefined;
  if (!isOwner(found.uid) || !found.isFile() || found.size > fileBytesMax) {
    throw new Fault(
      "PATH_INVALID",
      `Cannot trust ${path} as it must be a small file of yours: it belongs to user ${found.uid} and has ${found.size} bytes`,
    );
  }
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if ((error as { code?: unknown }).code === "ENOENT") return undefined; // it was just withdrawn
    throw error;
  }
}

/** Beside, then renamed: who sees the file sees all of it. */
function writeWhole(path: string, text: string): void {
  const beside = `${path}.${process.pid}-${randomBytes(4).toString("hex")}`;
  try {
    writeFileSync(beside, text, { flag: "wx", mode: 0o600 });
    renameSync(beside, path);
  } catch (error) {
    rmSync(beside, { force: true });
    throw error;
  }
}

/** Removes what clusters left that were killed. */
function sweep(folder: string): void {
  for (const port of portsIn(folder)) {
    const path = join(folder, `${port}.json`);
    const ready = readReady(path);
    if (ready !== undefined && isAlive(ready.pid)) continue;
    rmSync(path, { force: true });
    rmSync(join(folder, `${port}.token`), { force: true });
  }
}

/** Of the clusters that left word. */
function portsIn(folder: string): string[] {
  if (!isFolder(folder)) return [];
  return readdirSync(folder).flatMap((name) => /^(\d+)\.json$/.exec(name)?.[1] ?? []);
}
