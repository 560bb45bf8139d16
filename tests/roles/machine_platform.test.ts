import { expect, test } from "vitest";
import { machinePlatform } from "../../src/roles/machine_platform.ts";

test("a machine has the names and values of Remote Execution's lexicon, and nothing that has none", () => {
  expect(machinePlatform("linux", "x64")).toEqual({ OSFamily: "linux", ISA: "x86-64" });
  expect(machinePlatform("darwin", "arm64")).toEqual({ OSFamily: "macos", ISA: "arm-a64" });
  expect(machinePlatform("win32", "ia32")).toEqual({ OSFamily: "windows", ISA: "x86-32" });
  expect(machinePlatform("linux", "ppc64")["ISA"]).toMatch(/^power-isa-[bl]e$/);
  expect(machinePlatform("linux", "s390x")).toEqual({ OSFamily: "linux" });
});
