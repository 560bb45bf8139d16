// Compiles src/ to dist/ for Node (`npm run build`; npm runs it before packing). JavaScript, so that Node 20 runs it.
import { execFileSync } from "node:child_process";
import { copyFileSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const dist = join(root, "dist");
const compiler = join(dirname(createRequire(import.meta.url).resolve("typescript/package.json")), "bin/tsc");

rmSync(dist, { recursive: true, force: true });
try {
  execFileSync(process.execPath, [compiler, "-p", "tsconfig.build.json"], { cwd: root, stdio: "inherit" });
} catch {
  process.exit(1); // the compiler has said why
}

// Of the inspector's page, what is not compiled.
const page = join(root, "src/inspector/web");
for (const name of readdirSync(page)) {
  if (!name.endsWith(".ts")) copyFileSync(join(page, name), join(dist, "inspector/web", name));
}

// What is compiled names compiled files alone: Node 20 reads no TypeScript.
const left = readdirSync(dist, { recursive: true, encoding: "utf8" }).filter((path) => path.endsWith(".js")).flatMap((
  path,
) =>
  [...readFileSync(join(dist, path), "utf8").matchAll(/(?:\bfrom |\bimport\(|\bimport |new URL\()"(\.[^"\n]*\.ts)"/g)]
    .map(
      ([, specifier]) => `dist/${path} names ${specifier}`,
    )
);
for (const problem of left) console.error(problem);
if (left.length > 0) process.exit(1);
