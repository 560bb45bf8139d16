import { readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { root } from "./run_program.ts";

/**
 * npm and Deno each have a lockfile. They must name the same versions for what we depend on directly, exactly those of
 * package.json, say where from in neither, and the product's version must be one in all places.
 */
interface Manifest {
  readonly version: string;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly devDependencies: Readonly<Record<string, string>>;
}
interface NpmLock {
  readonly version: string;
  readonly packages: Readonly<Record<string, { readonly version?: string; readonly resolved?: string }>>;
}
interface DenoLock {
  readonly specifiers: Readonly<Record<string, string>>;
}

const read = (path: string): string => readFileSync(join(root, path), "utf8");

export function checkLocks(): readonly string[] {
  const problems: string[] = [];
  const manifest = JSON.parse(read("package.json")) as Manifest;
  const npmText = read("package-lock.json");
  const denoText = read("deno.lock");
  const npm = JSON.parse(npmText) as NpmLock;
  const deno = JSON.parse(denoText) as DenoLock;

  const wanted = Object.entries({ ...manifest.dependencies, ...manifest.devDependencies });
  for (const [name, version] of wanted) {
    if (!/^\d+\.\d+\.\d+$/.test(version)) problems.push(`package.json does not pin ${name}: ${version}`);
    const inNpm = npm.packages[`node_modules/${name}`]?.version;
    if (inNpm !== version) {
      problems.push(`${name} is ${version} in package.json and ${inNpm ?? "absent"} in package-lock.json`);
    }
    // A version in deno.lock may be followed by those of its peers: "1.5.0_typescript@7.0.2".
    const inDeno = deno.specifiers[`npm:${name}@${version}`]?.split("_", 1)[0];
    if (inDeno !== version) {
      problems.push(`${name} is ${version} in package.json and ${inDeno ?? "absent"} in deno.lock`);
    }
  }
  const known = new Set(wanted.map(([name, version]) => `npm:${name}@${version}`));
  for (const specifier of Object.keys(deno.specifiers)) {
    if (!known.has(specifier)) {
      problems.push(`deno.lock has ${specifier}, which package.json does not ask for: take the line out`);
    }
  }
  for (const [path, text] of [["package-lock.json", npmText], ["deno.lock", denoText]] as const) {
    const address = /"(?:resolved|tarball)"[^\n]*|https?:\/\/[^"\s]*registry[^"\s]*/.exec(text);
    if (address !== null) problems.push(`${path} says where a package comes from: ${address[0]}`);
  }
  const product = /productVersion = "([^"]+)"/.exec(read("src/protocol/version.ts"))?.[1];
  if (product !== manifest.version || npm.version !== manifest.version) {
    problems.push(
      `the product's version is ${manifest.version} in package.json, ${npm.version} in package-lock.json and ${product} in src/protocol/version.ts`,
    );
  }
  return problems;
}

if (import.meta.main) {
  const problems = checkLocks();
  for (const problem of problems) console.log(problem);
  process.exitCode = problems.length === 0 ? 0 : 1;
}
