import { endianness } from "node:os";

/** By Node's names; of the others nothing is said. */
const instructionSets: Readonly<Record<string, string>> = {
  arm: "arm-a32",
  arm64: "arm-a64",
  ia32: "x86-32",
  loong64: "la64v100",
  riscv64: "rv64g",
  x64: "x86-64",
};
const systems: Readonly<Record<string, string>> = { darwin: "macos", win32: "windows" };

/**
 * What every worker of this machine has, by the names and values that Remote Execution's lexicon gives them
 * (remote-apis, platform.md): clients that always say what they need, as BuildStream does, find a worker by them. What
 * workers here do not do, such as `container-image`, is not among them: an action that asks for it is told so.
 */
export function machinePlatform(
  platform: string = process.platform,
  arch: string = process.arch,
): Readonly<Record<string, string>> {
  const isa = arch === "ppc64" ? `power-isa-${endianness().toLowerCase()}` : instructionSets[arch];
  return { OSFamily: systems[platform] ?? platform, ...(isa === undefined ? {} : { ISA: isa }) };
}
