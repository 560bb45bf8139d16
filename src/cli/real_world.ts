import { mkdtempSync, readFileSync, watch } from "node:fs";
import { constants, tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { isAlive, isLoopback, runtimeFolder } from "../roles/this_user.ts";
import { realClock } from "../runtime/clock.ts";
import { randomHex } from "../runtime/random.ts";
import { OutputClosed, type Sink, type World } from "./world.ts";

const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
/** Editors write a file in several steps, and git many files. */
const calmMs = 100;
const terminalColumns = 80;
/** Where deno.json or package.json is: two folders above this one, in src/ as in dist/. */
const packageRoot = resolve(dirname(fileURLToPath(import.meta.url)), "..", "..");

/** This process, on this machine. */
export function realWorld(): World {
  const { env } = process;
  const world: World = {
    env,
    userDir: userFolder(env, process.cwd()),
    stdout: sink(process.stdout),
    stderr: sink(process.stderr),
    get stdin() {
      return process.stdin; // opened only for commands that read it
    },
    clock: realClock,
    runtimeFolder: runtimeFolder({ env, temporaryDir: tmpdir() }),
    processes: {
      isAlive,
      commandLine(pid) {
        try {
          return readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").trim();
        } catch {
          return undefined;
        }
      },
      terminate: (pid) => void process.kill(pid, "SIGTERM"),
    },
    randomHex,
    onSignal(listener) {
      const listeners = signals.map((signal) => [signal, () => listener(signal)] as const);
      for (const [signal, each] of listeners) process.on(signal, each);
      return () => {
        for (const [signal, each] of listeners) process.off(signal, each);
      };
    },
    watchFolder(dir, onChange) {
      let cancel = (): void => {};
      const watcher = watch(dir, { recursive: true }, () => {
        cancel();
        cancel = realClock.at(realClock.now() + calmMs, onChange);
      });
      watcher.on("error", () => {}); // a folder that went away changes no more
      return () => {
        cancel();
        watcher.close();
      };
    },
    temporaryFolder: () => mkdtempSync(join(tmpdir(), "scoot-actors-")),
    async runHere({ argv: [program = "", ...args], env, dir }) {
      const { spawn } = await import("node:child_process");
      return await new Promise((resolve, reject) => {
        const child = spawn(program, args, { env, cwd: dir, stdio: "inherit" });
        child.once("error", reject);
        child.once("exit", (code, signal) => resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal])));
      });
    },
    async facts(named) {
      const { machineFacts } = await import("./machine_facts.ts");
      return await machineFacts(world, named);
    },
    async connect(target) {
      const reached = import("./reach.ts").then(({ reach }) => reach(target.url, realClock)); // while the client is loaded
      const [{ connectClient }] = await Promise.all([import("../api/client.ts"), reached]);
      return connectClient({ ...target, isDirect: isLoopback(new URL(target.url).hostname) });
    },
    async trees() {
      const { localTrees } = await import("./trees.ts");
      return localTrees({ env, clock: realClock });
    },
  };
  return world;
}

/**
 * `deno task` runs in the folder of the project and tells the user's in INIT_CWD. So does npm for scripts of other
 * packages, which mean the folder that they run in: the variable counts only where our own tasks run.
 */
export function userFolder(env: World["env"], cwd: string, root: string = packageRoot): string {
  const told = env["INIT_CWD"];
  return told !== undefined && told !== "" && cwd === root ? resolve(cwd, told) : cwd;
}

function sink(stream: NodeJS.WriteStream): Sink {
  const closed = (error: unknown): unknown => {
    const code = (error as { code?: unknown } | null)?.code;
    return code === "EPIPE" || code === "ERR_STREAM_DESTROYED" ? new OutputClosed() : error;
  };
  stream.on("error", () => {}); // told to whoever wrote
  return {
    write: (bytes) =>
      new Promise<void>((done, fail) => {
        stream.write(bytes, (error) => error === null || error === undefined ? done() : fail(closed(error)));
      }),
    isTerminal: stream.isTTY === true,
    columns: stream.columns || terminalColumns, // some terminals say 0
  };
}
