import { describe, expect, test } from "vitest";
import { emptyDigest } from "../../src/domain/digest.ts";
import { workerId } from "../../src/domain/ids.ts";
import type { CommandData } from "../../src/domain/command.ts";
import { encodeAction, encodeCommand, encodeDirectory } from "../../src/protocol/reapi/canonical.ts";
import { writeBlob } from "../../src/snapshots/blobs/blobs.ts";
import { type FakeCluster, fakeCluster, fakeWorld, type } from "./fakes.ts";

describe("bazelrc", () => {
  const printed = async (cluster: FakeCluster, ...words: string[]): Promise<string> => {
    const world = fakeWorld({ cluster });
    expect(await type(world, "bazelrc", "--cluster", "http://127.0.0.1:9090", ...words)).toBe(0);
    return world.stdout.text().split("\n").filter((line) => line !== "" && !line.startsWith("#")).join("\n");
  };
  const newer = "build:remote_ttl --experimental_remote_cache_ttl=3600s\nbuild:remote_zstd --remote_cache_compression";

  test("prints flags to run on the workers, twice as many as there are slots", async () => {
    const cluster = fakeCluster();
    for (const id of ["w1", "w2"]) {
      cluster.workers.push({
        workerId: workerId(id),
        state: "present",
        slots: 8,
        busy: 0,
        platform: {},
        isolation: "none",
        sinceMs: 0,
      });
    }
    expect(await printed(cluster)).toBe(
      `build --remote_executor=grpc://127.0.0.1:9090\nbuild --jobs=32\nbuild --remote_retries=30\n${newer}`,
    );
  });
  test("prints flags for the cache alone, and for reading alone, of an instance", async () => {
    const cluster = fakeCluster();
    expect(await printed(cluster, "--cache-only", "--instance", "main")).toBe(
      `build --remote_cache=grpc://127.0.0.1:9090\nbuild --remote_upload_local_results=true\nbuild --jobs=32\n` +
        `build --remote_instance_name=main\n${newer}`,
    );
    expect(await printed(cluster, "--read-only")).toBe(
      `build --remote_cache=grpc://127.0.0.1:9090\nbuild --remote_upload_local_results=false\nbuild --jobs=32\n${newer}`,
    );
  });
  test("prints the token for a cluster elsewhere, over TLS where its door has it", async () => {
    const world = fakeWorld({ cluster: fakeCluster(), env: { SCOOT_TOKEN: "secret" } });
    expect(await type(world, "bazelrc", "--cluster", "https://builds.example")).toBe(0);
    expect(world.stdout.text()).toContain("build --remote_executor=grpcs://builds.example:443\n");
    expect(world.stdout.text()).toContain('build --remote_header=authorization="Bearer secret"\n');
  });
  test("is one or the other", async () => {
    const world = fakeWorld({ cluster: fakeCluster() });
    expect(await type(world, "bazelrc", "--read-only", "--cache-only")).toBe(2);
    expect(world.stderr.text()).toContain("--cache-only or --read-only");
  });
});

describe("why-miss", () => {
  const command: CommandData = {
    argv: ["cc", "-c", "a.cc"],
    env: { LANG: "C" },
    outputs: [],
    outputFiles: ["bazel-out/k8-fastbuild/bin/app/_objs/server/a.o"],
    platform: [],
    workingDirectory: "",
  };
  /** A result that a client sent. */
  async function sent(cluster: FakeCluster, atMs: number, source: string, changes: Partial<CommandData> = {}) {
    const { blobs } = cluster.client;
    const digest = await writeBlob(blobs, new TextEncoder().encode(source));
    const action = await writeBlob(
      blobs,
      encodeAction({
        command: await writeBlob(blobs, encodeCommand({ ...command, ...changes })),
        inputRoot: await writeBlob(blobs, encodeDirectory([{ kind: "file", name: "a.cc", digest, executable: false }])),
        doNotCache: false,
        platform: [],
      }),
    );
    cluster.kept.push({
      instance: "main",
      action,
      made: { by: "upload", atMs, durationMs: 0 },
      useCount: 0,
      usedAtMs: atMs,
      differedCount: 0,
      result: { exitCode: 0, outputs: [] },
      usedBy: [],
    });
    return action;
  }

  test("names the nearest earlier action, and what differs since", async () => {
    const cluster = fakeCluster();
    await sent(cluster, 1_000, "int old;", { env: { LANG: "de", PATH: "/bin" }, argv: ["gcc"] });
    const nearest = await sent(cluster, 2_000, "int a;");
    const last = await sent(cluster, 3_000, "int b2;", {
      env: { LANG: "C", NEW: "1" },
      outputFiles: ["bazel-out/k8-opt/bin/app/_objs/server/a.o"],
    });
    for (const asked of ["//app:server", last]) {
      const world = fakeWorld({ cluster });
      expect(await type(world, "why-miss", asked)).toBe(0);
      expect(world.stdout.text()).toBe(
        `bin/app/_objs/server/a.o: action ${last.slice(0, 12)} at 1970-01-01 00:00:03 UTC\n` +
          `  nearest: action ${nearest.slice(0, 12)} at 1970-01-01 00:00:02 UTC; since then\n` +
          "  NEW: set to 1\n" +
          "  declared outputs: bazel-out/k8-fastbuild/bin/app/_objs/server/a.o -> bazel-out/k8-opt/bin/app/_objs/server/a.o\n" +
          "  inputs:\n    ~ a.cc (6 B -> 7 B)\n",
      );
    }
  });
  test("of an action that is not the last of its kind tells what differs from those before it", async () => {
    const cluster = fakeCluster();
    await sent(cluster, 1_000, "int a;");
    const asked = await sent(cluster, 2_000, "int a;", { env: { LANG: "de" } });
    await sent(cluster, 3_000, "int other;");
    const world = fakeWorld({ cluster });
    expect(await type(world, "why-miss", asked)).toBe(0);
    expect(world.stdout.text()).toContain(`action ${asked.slice(0, 12)} at 1970-01-01 00:00:02 UTC`);
    expect(world.stdout.text()).toContain("LANG");
    expect(world.stdout.text()).not.toContain("a.cc");
  });
  test("says so when nothing earlier is known", async () => {
    const cluster = fakeCluster();
    await sent(cluster, 1_000, "int a;");
    const world = fakeWorld({ cluster });
    expect(await type(world, "why-miss", "//app:server")).toBe(0);
    expect(world.stdout.text()).toContain("nothing earlier of it is known here");
  });
  test("finds no other target's actions, and refuses what is no target", async () => {
    const cluster = fakeCluster();
    await sent(cluster, 1_000, "int a;");
    const typed = async (asked: string): Promise<string> => {
      const world = fakeWorld({ cluster });
      expect(await type(world, "why-miss", asked)).not.toBe(0);
      return world.stderr.text();
    };
    expect(await typed("//other:server")).toContain("Cannot find an action of //other:server");
    expect(await typed("server")).toContain("must be a target such as //app:server");
    expect(await typed(emptyDigest)).toContain("must be in the store");
  });
});
