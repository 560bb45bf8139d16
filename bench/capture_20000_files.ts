/**
 * How long do 20,000 files take, from a folder into a store and back, beside git on the same files?
 *
 * Rounds alternate between git and us, and the median counts. Everything is made anew in each round and removed only
 * at the end: a file system that has just lost 20,000 files is slower to make new ones, whoever makes them.
 */
import { execFileSync } from "node:child_process";
import { lstatSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { realClock, sleep } from "../src/runtime/clock.ts";
import { type Random, seededRandom } from "../src/runtime/random.ts";
import { localBlobs } from "../src/snapshots/blobs/local.ts";
import { capture, type CaptureOptions } from "../src/snapshots/trees/capture.ts";
import { checkout } from "../src/snapshots/trees/checkout.ts";
import type { Digest } from "../src/domain/digest.ts";
import { type Figure, report } from "./report.ts";

const folders = 200;
const filesAFolder = 100;
const rounds = 3;
/** Files younger than this are read again by the next capture. */
const settledMs = 2500;

const words = "const function return import export value index length if else for while await async result digest name \
string number { } ( ) => = ; [ ] , . : ? new this type interface readonly undefined true false".split(" ");

/** Source-like text of a length: words, numbers, lines. */
function sourceText(random: Random, length: number): string {
  let text = "";
  while (text.length < length) {
    const chance = random.integer(20);
    text += chance === 0 ? `${random.integer(1_000_000)} ` : words[random.integer(words.length)]!;
    text += random.integer(8) === 0 ? "\n" : " ";
  }
  return text.slice(0, length);
}

export function makeTree(dir: string): void {
  const random = seededRandom(20_000);
  for (let folder = 0; folder < folders; folder++) {
    const path = join(dir, `package${folder % 20}`, `module${folder}`);
    mkdirSync(path, { recursive: true });
    for (let file = 0; file < filesAFolder; file++) {
      writeFileSync(join(path, `file${file}.ts`), sourceText(random, 500 + random.integer(7500)));
    }
  }
}

/** What anybody who looks whether files have changed must do at least. */
function statWalk(dir: string): void {
  for (const name of readdirSync(dir)) {
    const path = `${dir}/${name}`;
    if (lstatSync(path).isDirectory()) statWalk(path);
  }
}

async function timed(act: () => unknown): Promise<number> {
  const from = performance.now();
  await act();
  return performance.now() - from;
}

/** The middle one; of an even number, the lower of the two in the middle. */
const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor((values.length - 1) / 2)] ?? NaN;

/** Measures all figures, in ms. */
export async function captureTwentyThousandFiles(): Promise<Figure[]> {
  const top = mkdtempSync(join(tmpdir(), "scoot-bench-capture-"));
  try {
    const dir = join(top, "tree");
    makeTree(dir);
    const times = { gitAdd: [], gitCheckout: [], cold: [], warm: [], walk: [], unchanged: [], checkout: [] } as Record<
      string,
      number[]
    >;
    const git = (gitDir: string, ...args: string[]): void => {
      execFileSync("git", [`--git-dir=${gitDir}`, `--work-tree=${dir}`, ...args], { stdio: "ignore", cwd: dir });
    };
    await sleep(realClock, settledMs);
    for (let round = 0; round < rounds; round++) {
      const gitDir = join(top, `git${round}`);
      execFileSync("git", ["init", "-q", "--bare", gitDir]);
      times.gitAdd!.push(await timed(() => (git(gitDir, "add", "-A"), git(gitDir, "write-tree"))));

      const blobs = localBlobs({ dir: join(top, `store${round}`), clock: realClock });
      const options: CaptureOptions = {
        dir,
        blobs,
        putFile: blobs.putFile,
        clock: realClock,
        indexPath: join(top, `index${round}`),
        environment: process.env,
      };
      let snapshot: Digest | undefined;
      times.cold!.push(await timed(async () => ({ snapshot } = await capture(options))));
      for (let touched = 0; touched < 3; touched++) {
        writeFileSync(join(dir, "package0/module0/file0.ts"), `touched ${round} ${touched}\n`);
        times.warm!.push(await timed(async () => ({ snapshot } = await capture(options))));
      }

      // A file that was touched just now is read again, and the index written, until it is old enough to be trusted.
      await sleep(realClock, settledMs);
      const holdsTree = (): Promise<boolean> => Promise.resolve(true);
      await capture(options);
      for (let again = 0; again < 3; again++) {
        times.walk!.push(await timed(() => statWalk(dir)));
        times.unchanged!.push(await timed(() => capture({ ...options, holdsTree })));
      }

      const checkouts = [
        async () => {
          const into = join(top, `git-out${round}`);
          times.gitCheckout!.push(await timed(() => git(gitDir, "checkout-index", "-a", `--prefix=${into}/`)));
        },
        async () => {
          const out = join(top, `out${round}`);
          times.checkout!.push(await timed(() => checkout({ snapshot: snapshot!, dir: out, blobs })));
        },
      ];
      // Who comes second finds a fuller disk, so they take turns in that.
      for (const check of round % 2 === 0 ? checkouts : checkouts.reverse()) await check();
      await blobs.close();
    }
    const { gitAdd, gitCheckout, cold, warm, walk, unchanged, checkout: checkedOut } = Object.fromEntries(
      Object.entries(times).map(([name, values]) => [name, median(values)]),
    ) as Record<string, number>;
    const figure = (name: string, value: number, baseline: number, partMax: number): Figure => ({
      name,
      value,
      unit: "ms",
      baseline,
      target: { atMost: Math.round(baseline * partMax) },
    });
    return [
      figure("capture 20,000 files, beside git add and write-tree", cold!, gitAdd!, 0.8),
      figure("capture them with one changed, beside all of them", warm!, cold!, 0.1),
      figure("capture them unchanged, beside a plain stat walk of them", unchanged!, walk!, 2.5),
      figure("check out 20,000 files, beside git checkout-index", checkedOut!, gitCheckout!, 0.8),
    ];
  } finally {
    rmSync(top, { recursive: true, force: true });
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]!).href) {
  report(await captureTwentyThousandFiles(), process.argv.slice(2));
}
