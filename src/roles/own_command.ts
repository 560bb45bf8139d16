import { existsSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

const isOnPath = (program: string): boolean =>
  (process.env["PATH"] ?? "").split(delimiter).some((dir) => dir !== "" && existsSync(join(dir, program)));

/** What a person types, in any folder, to run this very program: it is on nobody's PATH when it comes from a checkout. */
export function ownCommand(): string {
  const script = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "bin", "scoot-actors.mjs");
  if (isOnPath("scoot-actors")) return "scoot-actors";
  if (/[\\/]node_modules[\\/]scoot-actors[\\/]/.test(script)) return "npx scoot-actors";
  const quoted = /^[\w./@+-]+$/.test(script) ? script : `'${script.replaceAll("'", "'\\''")}'`;
  return isOnPath("node") ? `node ${quoted}` : `deno run -A ${quoted}`;
}
