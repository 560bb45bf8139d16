import { availableParallelism, homedir, hostname } from "node:os";
import { join, resolve } from "node:path";
import * as v from "valibot";
import { Fault } from "../domain/fault.ts";
import type { WorkerId } from "../domain/ids.ts";
import { readSize } from "../domain/size.ts";
import { checkInstanceName } from "../protocol/reapi/resource_name.ts";
import { isLoopback } from "./this_user.ts";

/**
 * What each role is told at its start. A setting comes from its flag, else from its environment variable, else from the
 * default; all pass the same schema, once.
 */

type Raw = string | boolean | readonly string[];

const isTrue = new Set(["", "1", "true", "yes", "on"]);

const whole = (min: number, max: number) =>
  v.pipe(
    v.string(),
    v.regex(/^[0-9]{1,10}$/, `be a whole number from ${min} to ${max}`),
    v.transform(Number),
    v.check((value) => value >= min && value <= max, `be a whole number from ${min} to ${max}`),
  );
const path = v.pipe(v.string(), v.minLength(1, "be a path"), v.check((text) => !text.includes("\0"), "hold no NUL"));
const host = v.pipe(v.string(), v.regex(/^[A-Za-z0-9.:_-]{1,255}$/, "be a host name or an IP address"));
const onOff = v.pipe(
  v.union([v.boolean(), v.string()]),
  v.check((given) => typeof given === "boolean" || isTrue.has(given) || /^(0|false|no|off)$/.test(given), "be 1 or 0"),
  v.transform((given) => typeof given === "boolean" ? given : isTrue.has(given)),
);
const addressSentence = "be a host and a port such as 127.0.0.1:9091";
const address = v.pipe(
  v.string(),
  v.regex(/^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}$/, addressSentence),
  v.transform((text): NetworkAddress => {
    const colon = text.lastIndexOf(":");
    return { host: text.slice(0, colon).replace(/^\[|\]$/g, ""), port: Number(text.slice(colon + 1)) };
  }),
  v.check(({ port }) => port <= 65_535, addressSentence),
);
const platform = v.pipe(
  v.union([v.array(v.string()), v.string()]),
  v.transform((given) => (typeof given === "string" ? given.split(",") : given).filter((pair) => pair !== "")),
  v.check(
    (pairs) => pairs.length <= 64 && pairs.every((pair) => /^[^=,]{1,200}=[^,]{0,200}$/.test(pair)),
    "be NAME=VALUE",
  ),
  v.transform((pairs): Readonly<Record<string, string>> =>
    Object.fromEntries(pairs.map((pair) => [pair.slice(0, pair.indexOf("=")), pair.slice(pair.indexOf("=") + 1)]))
  ),
);
const workerId = v.pipe(
  v.string(),
  v.regex(/^[A-Za-z0-9._-]{1,64}$/, "be 1 to 64 of A-Z a-z 0-9 . _ -"),
  v.transform((text) => text as WorkerId),
);
const size = v.pipe(
  v.string(),
  v.transform(readSize),
  v.number("be a size such as 500M or 20G"),
  v.check((bytes) => bytes >= 100e6, "be at least 100M"),
);
const ageUnits: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const age = v.pipe(
  v.string(),
  v.regex(/^[0-9]{1,6}[smhd]$/, "be a time such as 30m or 3h"),
  v.transform((text) => parseInt(text, 10) * ageUnits[text.at(-1)!]!),
  v.check((ms) => ms >= 1_000, "be at least 1s"),
);
const isInstanceName = (name: string): boolean => {
  try {
    checkInstanceName(name);
    return true;
  } catch {
    return false;
  }
};
const instances = v.pipe(
  v.union([v.array(v.string()), v.string()]),
  v.transform((given): readonly string[] => [...new Set(typeof given === "string" ? given.split(",") : given)]),
  v.check((names) => names.every(isInstanceName), "be instance names such as main or a/b"),
);
const strategy = v.picklist(["local.local", "local.memory"], `be "local.local" or "local.memory"`);

/** Where a role listens or is found. Port 0: one that is free. */
export interface NetworkAddress {
  readonly host: string;
  /** 0 to 65535. */
  readonly port: number;
}

/** Of the Remote Execution API and its HTTP cache. */
const reapiSettings = {
  /** Absent: any instance name is a namespace of its own. */
  instances: v.exactOptional(instances),
  anyResult: onOff,
};
const clusterSchema = v.strictObject({
  dataDir: path,
  host,
  port: whole(0, 65_535),
  allowNetwork: onOff,
  workers: whole(0, 1_000),
  slots: whole(1, 10_000),
  readyFile: v.exactOptional(path),
  strategy,
  maxSize: size,
  guaranteedAge: age,
  ...reapiSettings,
  detach: onOff,
  json: onOff,
});
const schedulerSchema = v.strictObject({ dataDir: path, listen: address, allowNetwork: onOff, tokenFile: path });
const gatewaySchema = v.strictObject({
  dataDir: path,
  listen: address,
  allowNetwork: onOff,
  scheduler: address,
  maxSize: size,
  ...reapiSettings,
  tokenFile: path,
});
const workerSchema = v.strictObject({
  dataDir: path,
  scheduler: address,
  gateway: address,
  slots: whole(1, 10_000),
  workerId,
  platform,
  maxSize: size,
  tokenFile: path,
});

/**
 * All of it on this machine. `slots` is of each worker; `dataDir` and `readyFile` are absolute, as in all configs;
 * `json`: what is told at the start is told as one line of JSON.
 */
export type ClusterConfig = Readonly<v.InferOutput<typeof clusterSchema>>;
export type SchedulerConfig = Readonly<v.InferOutput<typeof schedulerSchema>>;
export type GatewayConfig = Readonly<v.InferOutput<typeof gatewaySchema>>;
/** A door starts the gateway behind it, and tells it the rest. */
export type DoorConfig = GatewayConfig;
export type WorkerConfig = Readonly<v.InferOutput<typeof workerSchema>>;

/** What a config is read from. */
export interface Given {
  /** By name without dashes: `{ port: "9090" }`. */
  readonly flags: Readonly<Record<string, Raw | undefined>>;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** What relative paths are relative to. */
  readonly userDir: string;
}

/** Flags are named as here; a variable is the flag in capitals: `--ready-file` is `SCOOT_READY_FILE`. */
const flagOf: Readonly<Record<string, string>> = {
  dataDir: "data",
  allowNetwork: "allow-network",
  readyFile: "ready-file",
  tokenFile: "token-file",
  workerId: "worker-id",
  maxSize: "max-size",
  guaranteedAge: "guaranteed-age",
  anyResult: "any-result",
};
const paths: ReadonlySet<string> = new Set(["dataDir", "readyFile", "tokenFile"]);

const flagNamed = (setting: string): string => flagOf[setting] ?? setting;
const variableNamed = (setting: string): string => `SCOOT_${flagNamed(setting).toUpperCase().replaceAll("-", "_")}`;

/** `~/.local/state/scoot-actors`, or where `$XDG_STATE_HOME` says. */
export function defaultDataDir(env: Given["env"]): string {
  const state = env["XDG_STATE_HOME"];
  const home = env["HOME"] ?? homedir();
  return join(state !== undefined && state.startsWith("/") ? state : join(home, ".local", "state"), "scoot-actors");
}

const dataDirOf = ({ flags, env }: Given): string =>
  String(flags["data"] ?? (env["SCOOT_DATA"] || defaultDataDir(env)));

const defaultWorkerId = (): string => hostname().replaceAll(/[^A-Za-z0-9._-]/g, "-").slice(0, 64) || "worker";

/** @throws {Fault} `USAGE_INVALID` naming the flag or variable; `BIND_REFUSED` for a host that others may reach. */
export function readClusterConfig(given: Given): ClusterConfig {
  const config = read(clusterSchema, given, {
    dataDir: defaultDataDir(given.env),
    host: "127.0.0.1",
    port: "9090",
    allowNetwork: false,
    workers: "2",
    slots: String(Math.max(1, Math.ceil(availableParallelism() / 2))),
    strategy: "local.local",
    maxSize: "20G",
    guaranteedAge: "1h",
    anyResult: false,
    detach: false,
    json: false,
  });
  refuseOpenHost(config.host, config.allowNetwork, join(config.dataDir, "token"));
  return config;
}

/** @throws {Fault} as {@link readClusterConfig} */
export function readSchedulerConfig(given: Given): SchedulerConfig {
  const config = read(schedulerSchema, given, {
    dataDir: defaultDataDir(given.env),
    listen: "127.0.0.1:9091",
    allowNetwork: false,
    tokenFile: join(dataDirOf(given), "token"),
  });
  refuseOpenHost(config.listen.host, config.allowNetwork, config.tokenFile);
  return config;
}

/** @throws {Fault} as {@link readClusterConfig} */
export function readGatewayConfig(given: Given): GatewayConfig {
  const config = read(gatewaySchema, given, {
    dataDir: defaultDataDir(given.env),
    listen: "127.0.0.1:9090",
    allowNetwork: false,
    scheduler: "127.0.0.1:9091",
    maxSize: "20G",
    anyResult: false,
    tokenFile: join(dataDirOf(given), "token"),
  });
  refuseOpenHost(config.listen.host, config.allowNetwork, config.tokenFile);
  return config;
}

/** @throws {Fault} as {@link readClusterConfig} */
export const readDoorConfig = (given: Given): DoorConfig => readGatewayConfig(given);

/** @throws {Fault} `USAGE_INVALID` naming the flag or variable. */
export function readWorkerConfig(given: Given): WorkerConfig {
  const id = given.flags["worker-id"] ?? (given.env["SCOOT_WORKER_ID"] || defaultWorkerId());
  return read(workerSchema, given, {
    dataDir: join(defaultDataDir(given.env), "workers", String(id)),
    scheduler: "127.0.0.1:9091",
    gateway: "127.0.0.1:9090",
    slots: String(availableParallelism()),
    workerId: defaultWorkerId(),
    platform: [],
    maxSize: "20G",
    tokenFile: join(defaultDataDir(given.env), "token"),
  });
}

function read<const Schema extends v.StrictObjectSchema<v.ObjectEntries, undefined>>(
  schema: Schema,
  given: Given,
  defaults: Readonly<Record<string, Raw>>,
): v.InferOutput<Schema> {
  const raw: Record<string, Raw> = {};
  const origins = new Map<string, string>();
  for (const setting of Object.keys(schema.entries)) {
    const flag = given.flags[flagNamed(setting)];
    const variable = given.env[variableNamed(setting)] || undefined; // set to nothing is not set
    const value = flag ?? variable ?? defaults[setting];
    if (value === undefined) continue;
    raw[setting] = typeof value === "string" && paths.has(setting) && value !== ""
      ? resolve(given.userDir, value)
      : value;
    origins.set(
      setting,
      flag !== undefined || variable === undefined ? `--${flagNamed(setting)}` : variableNamed(setting),
    );
  }
  const result = v.safeParse(schema, raw, { abortEarly: true });
  if (result.success) return result.output;
  const issue = result.issues[0];
  const setting = String(issue.path?.[0].key);
  throw new Fault(
    "USAGE_INVALID",
    `Cannot start as ${origins.get(setting) ?? setting} must ${issue.message}: current value is ${
      JSON.stringify(raw[setting])
    }`,
  );
}

function refuseOpenHost(host: string, isAllowed: boolean, tokenFile: string): void {
  if (isAllowed || isLoopback(host)) return;
  throw new Fault(
    "BIND_REFUSED",
    `Cannot listen on ${host} as the host must be a loopback address such as 127.0.0.1: whoever reaches the port and has the ` +
      `token can run commands as you on this machine, and nothing that travels is encrypted. To allow it on a network that you trust, ` +
      `add --allow-network, and give the token in ${tokenFile} to those who may`,
  );
}
