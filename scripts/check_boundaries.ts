import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { root } from "./run_program.ts";

/**
 * Who may import whom, as one table. A room is the first folder under src/. Types count like values: who knows a type
 * knows the room. The order of the rooms is that of the tree in docs/architecture.md: each knows only what is before it.
 */
interface Room {
  /** Other rooms whose files it may name. */
  readonly rooms: readonly string[];
  /** Packages of npm. */
  readonly packages: readonly string[];
  /** `node:` modules; `all` where a room has to do with the world. */
  readonly node: readonly string[] | "all";
  /** Same input, same answer: it reads no clock and no chance, and starts no timer, but by what it was given. */
  readonly pure: boolean;
  /** Of the hands it may enter any file, not only the {@link entrances}. */
  readonly whole?: true;
}

const words = ["domain", "protocol"] as const;
const thought = [...words, "scheduling", "machines"] as const;
const served = ["runtime", "observability"] as const;
const hands = [...served, "transport", "snapshots", "runner", "cluster"] as const;
const life = [...thought, ...hands, "actors"] as const;
const doors = ["api", "reapi", "inspector"] as const;

const rooms: Readonly<Record<string, Room>> = {
  // WORDS
  domain: { rooms: [], packages: [], node: [], pure: true },
  protocol: { rooms: ["domain"], packages: ["valibot"], node: ["node:buffer", "node:crypto"], pure: true },
  // THOUGHT
  scheduling: { rooms: words, packages: ["deno-std"], node: [], pure: true },
  machines: { rooms: [...words, "scheduling"], packages: ["xstate"], node: [], pure: true },
  // HANDS
  runtime: { rooms: ["domain"], packages: ["deno-std"], node: "all", pure: false },
  observability: { rooms: ["domain", "runtime"], packages: [], node: "all", pure: false },
  transport: {
    rooms: ["domain", ...served],
    packages: ["cbor-x", "valibot", "ws", "deno-std"],
    node: "all",
    pure: false,
  },
  snapshots: {
    rooms: ["domain", ...served],
    packages: ["cbor-x", "comlink", "fflate", "lmdb", "valibot", "deno-std"],
    node: "all",
    pure: false,
  },
  runner: { rooms: ["domain", ...served], packages: ["deno-std"], node: "all", pure: false },
  cluster: { rooms: ["domain", ...served], packages: ["deno-std"], node: "all", pure: false },
  // LIFE
  actors: { rooms: [...thought, ...hands], packages: ["xstate", "deno-std"], node: [], pure: true },
  // DOORS
  api: {
    rooms: [...words, ...hands],
    packages: ["hono", "@hono/node-server", "valibot", "ws", "deno-std"],
    node: "all",
    pure: false,
  },
  reapi: { rooms: [...words, ...hands], packages: ["@grpc/grpc-js", "deno-std"], node: "all", pure: false },
  conformance: { rooms: words, packages: ["@grpc/grpc-js"], node: "all", pure: false },
  inspector: { rooms: [...thought, ...hands], packages: ["valibot", "xstate"], node: "all", pure: false },
  cli: {
    rooms: [...words, "scheduling", ...hands, "api", "conformance", "roles"],
    packages: ["deno-std"],
    node: "all",
    pure: false,
  },
  // WHOLE
  roles: { rooms: [...life, ...doors], packages: ["valibot", "deno-std"], node: "all", pure: false, whole: true },
  simulation: { rooms: [...life, "api"], packages: ["deno-std"], node: ["node:crypto"], pure: true, whole: true },
  // The package's public door.
  "mod.ts": { rooms: [...words, "api", "snapshots"], packages: [], node: [], pure: true, whole: true },
};

/** Files by which a hand is entered: its interface, and what has but one form and so needs none. */
const entrances = [
  "runtime/",
  "observability/",
  "transport/transport.ts",
  "transport/secret.ts",
  "transport/redial.ts",
  "snapshots/states/states.ts",
  "snapshots/actions/actions.ts",
  "snapshots/actions/complete.ts",
  "snapshots/collect.ts",
  "snapshots/lease.ts",
  "snapshots/blobs/blobs.ts",
  "snapshots/refs/refs.ts",
  "snapshots/refs/name.ts",
  "snapshots/trees/",
  "snapshots/actions/actions.ts",
  "runner/runner.ts",
  "cluster/discovery.ts",
];

/** What the table forbids and a file does all the same: the file, what it names, and why. One that is not needed is told. */
const exceptions: readonly (readonly [file: string, name: string, why: string])[] = [
  [
    "snapshots/trees/read_files.ts",
    "protocol",
    "a snapshot is a canonical REAPI Directory, and there is one encoder of those",
  ],
  [
    "snapshots/trees/action_outputs.ts",
    "protocol",
    "an output folder is a canonical REAPI Tree, and there is one encoder",
  ],
  [
    "snapshots/trees/output_tree.ts",
    "protocol",
    "an action's folders are canonical REAPI Trees, and there is one decoder of those",
  ],
  [
    "snapshots/trees/compose.ts",
    "protocol",
    "a snapshot is a canonical REAPI Directory, and there is one encoder of those",
  ],
  [
    "snapshots/trees/read_tree.ts",
    "protocol",
    "a snapshot is a canonical REAPI Directory, and there is one decoder of those",
  ],
  [
    "snapshots/actions/cache.ts",
    "protocol",
    "a result is a canonical REAPI ActionResult, and there is one codec of those",
  ],
  ["snapshots/actions/complete.ts", "protocol", "what a result refers to is in REAPI Trees and Directories"],
  ["actors/attempt_effects.ts", "node:fs", "the worker's real effects: what the simulation has another of"],
  ["actors/attempt_effects.ts", "node:path", "the worker's real effects: what the simulation has another of"],
  ["actors/attempt_effects.ts", "snapshots/blobs/object_file.ts", "streams are files, hashed where they lie"],
  ["actors/output_server.ts", "node:fs", "streams are files of the attempt, read from any offset while they grow"],
  ["api/client.ts", "transport/tcp.ts", "a user's program imports it, and it dials by itself"],
  ["api/client.ts", "transport/websocket.ts", "a user's program imports it, and it dials by itself"],
  [
    "cli/trees.ts",
    "snapshots/pool/pool.ts",
    "the CLI is the whole of its own process, and captures with that machine's threads",
  ],
  ["simulation/time.ts", "setImmediate", "lets settled promises run on between two happenings; no time passes by it"],
];

const impure =
  /\b(Date\.now|Math\.random|performance\.now|setTimeout|setInterval|setImmediate|AbortSignal\.timeout|new Date\(\))/g;

/** Without comments, so that prose about timers and modules counts for nothing. Line numbers stay. */
const withoutComments = (text: string): string =>
  text.replaceAll(/\/\*[\s\S]*?\*\//g, (comment) => comment.replaceAll(/[^\n]/g, "")).replaceAll(
    /(^|[\s;{}(,])\/\/[^\n]*/g,
    "$1",
  );

const specifiers = /(?:(?<!")\bfrom\s*|\bimport\s*\(?\s*|\bnew URL\(\s*)"([^"\n]+)"/g;

const packageOf = (specifier: string): string => specifier.split("/", specifier.startsWith("@") ? 2 : 1).join("/");

/** @param files paths from the root, of which those of the program are looked at. */
export function checkBoundaries(files: readonly string[]): readonly string[] {
  const problems: string[] = [];
  const used = new Set<number>();
  for (const path of files) {
    if (!/^src\/.*\.ts$/.test(path) || path.endsWith(".d.ts") || !existsSync(join(root, path))) continue;
    const file = path.slice("src/".length);
    const roomName = file.split("/", 1)[0]!;
    const room = rooms[roomName];
    if (room === undefined) {
      problems.push(`${path} is in a room that the table in scripts/check_boundaries.ts does not have`);
      continue;
    }
    const isExcepted = (name: string): boolean => {
      const at = exceptions.findIndex(([file_, name_]) => file_ === file && name_ === name);
      if (at >= 0) used.add(at);
      return at >= 0;
    };
    const text = withoutComments(readFileSync(join(root, path), "utf8"));
    const say = (index: number, what: string): void => {
      problems.push(`${path}:${text.slice(0, index).split("\n").length} ${what}`);
    };
    for (const match of text.matchAll(specifiers)) {
      const specifier = match[1]!;
      if (specifier.startsWith("node:")) {
        if (room.node !== "all" && !room.node.includes(specifier) && !isExcepted(specifier)) {
          say(match.index, `uses ${specifier}, which ${roomName} may not`);
        }
      } else if (specifier.startsWith(".")) {
        const target = join(dirname(file), specifier);
        if (target.startsWith("..")) {
          if (target !== "../package.json") say(match.index, `names ${specifier}, which is outside of src/`);
          continue;
        }
        const other = target.split("/", 1)[0]!;
        if (other === roomName || !target.endsWith(".ts")) continue;
        if (!room.rooms.includes(other)) {
          if (!isExcepted(other)) say(match.index, `imports ${target}: ${roomName} may not know ${other}`);
        } else if (
          room.whole !== true && (hands as readonly string[]).includes(other) &&
          !entrances.some((entrance) => target.startsWith(entrance)) && !isExcepted(target)
        ) {
          say(match.index, `imports ${target}: ${other} is entered by its interface`);
        }
      } else if (/^[@a-z]/.test(specifier) && !specifier.includes(":")) {
        const name = packageOf(specifier);
        if (!room.packages.includes(name) && !isExcepted(name)) {
          say(match.index, `uses the package ${name}, which ${roomName} may not`);
        }
      } else if (!specifier.startsWith("#")) {
        say(match.index, `names "${specifier}": only files, node: modules and packages of package.json`);
      }
    }
    if (room.pure) {
      for (const match of text.matchAll(impure)) {
        if (!isExcepted(match[1]!)) say(match.index, `uses ${match[1]}: time and chance come in by name`);
      }
    }
    if (roomName !== "runtime") {
      const runtimeOwn = /\bDeno\./.exec(text);
      if (runtimeOwn !== null) say(runtimeOwn.index, "uses Deno's own API, which Node lacks");
    }
  }
  for (const [at, [file, name]] of exceptions.entries()) {
    if (!used.has(at)) {
      problems.push(`the exception of src/${file} for ${name} is not needed: take it out of the table`);
    }
  }
  return problems;
}

if (import.meta.main) {
  const files = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard", "src"], {
    cwd: root,
    encoding: "utf8",
  }).split("\n");
  const problems = checkBoundaries(files);
  for (const problem of problems) console.log(problem);
  process.exitCode = problems.length === 0 ? 0 : 1;
}
