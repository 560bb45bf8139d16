import { type ChildProcess, spawn } from "node:child_process";
import type { Socket } from "node:net";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { Fault } from "../domain/fault.ts";
import { type Clock, sleep } from "../runtime/clock.ts";
import type { Launch, Launched, Launcher, LeaderEnd } from "./launch.ts";
import { type FromStarter, linesOf, type ToStarter } from "./launcher_lines.ts";
import { processInfo } from "./proc.ts";

const script = fileURLToPath(
  new URL(import.meta.url.endsWith(".ts") ? "./launcher_main.ts" : "./launcher_main.js", import.meta.url),
);

/** How long a command that was killed is waited for. */
const dyingMsMax = 10_000;

interface Waiting {
  readonly launch: Launch;
  readonly started: (launched: Launched) => void;
  readonly failed: (fault: Fault) => void;
  readonly ended: Promise<LeaderEnd>;
  readonly end: (how: LeaderEnd) => void;
  pid?: number;
}

/**
 * Starts commands as children of a small process that does nothing else. On Node a start copies the page tables of the
 * process that starts: from one with 60 MB that costs three times what it does from one with 12, and all stands still
 * meanwhile. (Deno's does not grow with it.)
 *
 * The small process ends with this one. When it is killed alone, its commands are killed, and count as killed; the next
 * start makes another.
 *
 * @param options.lifeline the watcher, whose standard input it holds as well: none of what it starts escapes the watcher.
 * @param options.onLost is to end what may have been started, and could not be told.
 */
export function launcherProcess(options: {
  readonly clock: Clock;
  readonly lifeline: () => ChildProcess;
  readonly onLost: (record: string) => Promise<unknown>;
}): Launcher {
  const { clock } = options;
  const waiting = new Map<number, Waiting>();
  let starter: ChildProcess | undefined;
  let number = 0;

  /** This process need not live on for a starter that has nothing to tell. */
  const hold = (): void => {
    const heard = starter?.stdout as Socket | null | undefined;
    if (waiting.size > 0) heard?.ref();
    else heard?.unref();
  };
  const hear = (message: FromStarter): void => {
    const one = waiting.get(message.number);
    if (one === undefined) return;
    if ("pid" in message) {
      const { pid, startedAtMs, paths } = message;
      one.pid = pid;
      one.started({ pid, startedAtMs, paths, ended: one.ended });
    }
    const how = "fault" in message ? message.fault : message.end;
    if (how === undefined) return;
    waiting.delete(message.number);
    hold();
    if ("code" in how) one.failed(new Fault(how.code, how.message));
    else one.end(how);
  };
  const lose = async (one: Waiting): Promise<void> => {
    if (one.pid === undefined) {
      await options.onLost(one.launch.record).catch(() => {});
      return one.failed(
        new Fault(
          "INTERNAL",
          `Cannot start ${one.launch.file} as the process that starts commands must live: it ended`,
        ),
      );
    }
    try {
      process.kill(-one.pid, "SIGKILL");
    } catch {
      // Gone already.
    }
    const giveUpAtMs = clock.now() + dyingMsMax;
    while (processInfo(one.pid)?.isDead === false && clock.now() < giveUpAtMs) await sleep(clock, 1);
    one.end({ exitCode: 128 + 9, signal: "SIGKILL" });
  };
  const begin = (): ChildProcess => {
    // Standard error stays ours: what it dies of is told there.
    const child = spawn(process.execPath, ["--max-semi-space-size=1", "--v8-pool-size=0", script], {
      detached: true,
      stdio: ["pipe", "pipe", "inherit", options.lifeline().stdin!],
      env: {},
      cwd: "/",
    });
    let isLost = false;
    const onEnd = (): void => {
      if (isLost) return;
      isLost = true;
      if (starter === child) starter = undefined;
      const lost = [...waiting.values()];
      waiting.clear();
      for (const one of lost) void lose(one);
    };
    child.on("error", onEnd);
    child.on("close", onEnd);
    child.stdin!.on("error", () => {});
    linesOf(child.stdout!, (line) => hear(JSON.parse(line) as FromStarter));
    child.unref();
    (child.stdin as Socket).unref();
    return child;
  };
  starter = begin();
  hold();

  return {
    start: (launch) =>
      new Promise((resolve, reject) => {
        starter ??= begin();
        let end: (how: LeaderEnd) => void = () => {};
        const ended = new Promise<LeaderEnd>((settle) => end = settle);
        waiting.set(++number, { launch, started: resolve, failed: reject, ended, end });
        hold();
        starter.stdin!.write(JSON.stringify({ number, launch } satisfies ToStarter) + "\n");
      }),
    get pid() {
      return starter?.pid;
    },
    close: () => void starter?.stdin?.end(),
  };
}
