import { describe, expect, onTestFinished, test } from "vitest";
import type { Refs } from "../../../src/snapshots/refs/refs.ts";

async function listed(refs: Refs, prefix: string, options?: { after?: string; limit?: number }) {
  const found: (readonly [string, string])[] = [];
  for await (const entry of refs.list(prefix, options)) found.push(entry);
  return found;
}

/** What every implementation of Refs promises. @param make a new, empty store; the contract closes it. */
export function refsContract(name: string, make: () => Refs): void {
  describe(name, () => {
    const opened = (): Refs => {
      const refs = make();
      onTestFinished(() => refs.close());
      return refs;
    };

    test("compareAndSet() makes, moves and removes a name", async () => {
      const refs = opened();
      expect(await refs.get("a")).toBeUndefined();
      await refs.compareAndSet("a", undefined, "one");
      expect(await refs.get("a")).toBe("one");
      await refs.compareAndSet("a", "one", "two");
      expect(await refs.get("a")).toBe("two");
      await refs.compareAndSet("a", "two", undefined);
      expect(await refs.get("a")).toBeUndefined();
    });

    test("compareAndSet() refuses as REF_CONFLICT, naming the present value, when it is another", async () => {
      const refs = opened();
      await expect(refs.compareAndSet("a", "zero", "one")).rejects.toMatchObject({ code: "REF_CONFLICT" });
      await refs.compareAndSet("a", undefined, "one");
      await expect(refs.compareAndSet("a", undefined, "two")).rejects.toThrow('current value is "one"');
      await expect(refs.compareAndSet("a", "zero", undefined)).rejects.toMatchObject({ code: "REF_CONFLICT" });
      expect(await refs.get("a")).toBe("one");
    });

    test("an empty value is a value", async () => {
      const refs = opened();
      await refs.compareAndSet("a", undefined, "");
      expect(await refs.get("a")).toBe("");
      await refs.compareAndSet("a", "", "b");
    });

    test("of many who move a name from the same place at once, one succeeds", async () => {
      const refs = opened();
      const tries = await Promise.allSettled(
        Array.from({ length: 20 }, (_, i) => refs.compareAndSet("a", undefined, String(i))),
      );
      expect(tries.filter((one) => one.status === "fulfilled")).toHaveLength(1);
      expect(await refs.get("a")).toBe(String(tries.findIndex((one) => one.status === "fulfilled")));
    });

    test("takes names of 1 to 512 bytes without control characters", async () => {
      const refs = opened();
      for (const good of ["a", "x".repeat(512), "ü".repeat(256), "action/ab cd/…", "😀"]) {
        await refs.compareAndSet(good, undefined, good);
        expect(await refs.get(good)).toBe(good);
      }
      for (const bad of ["", "x".repeat(513), "ü".repeat(257), "a\nb", "\u0000", "a\u007f", "\u0085", "\ud800"]) {
        await expect(refs.get(bad)).rejects.toMatchObject({ code: "REQUEST_INVALID" });
        await expect(refs.compareAndSet(bad, undefined, "v")).rejects.toMatchObject({ code: "REQUEST_INVALID" });
      }
    });

    test("takes values of at most 64 KiB", async () => {
      const refs = opened();
      await refs.compareAndSet("a", undefined, "v".repeat(65536));
      await expect(refs.compareAndSet("b", undefined, "v".repeat(65537))).rejects.toMatchObject({
        code: "REQUEST_INVALID",
      });
    });

    test("list() gives the names under a prefix in byte order, from after a name, up to a limit", async () => {
      const refs = opened();
      const names = ["a/1", "a/10", "a/2", "a/\uffee", "a/😀", "a", "b/1", "ab"];
      for (const name of names) await refs.compareAndSet(name, undefined, `to ${name}`);
      const under = ["a/1", "a/10", "a/2", "a/\uffee", "a/😀"]; // UTF-16 order would have 😀 before \uffee
      expect(await listed(refs, "a/")).toEqual(under.map((name) => [name, `to ${name}`]));
      expect((await listed(refs, "")).map(([name]) => name)).toEqual(["a", ...under, "ab", "b/1"]);
      expect((await listed(refs, "a/", { after: "a/10" })).map(([name]) => name)).toEqual(under.slice(2));
      expect((await listed(refs, "a/", { after: "a" })).map(([name]) => name)).toEqual(under);
      expect((await listed(refs, "a/", { after: "b" })).map(([name]) => name)).toEqual([]);
      expect((await listed(refs, "a/", { after: "a/1", limit: 2 })).map(([name]) => name)).toEqual(under.slice(1, 3));
      expect(await listed(refs, "c")).toEqual([]);
      expect(await listed(refs, "a/", { limit: 0 })).toEqual([]);
    });

    test("list() goes on over more names than are read at once", async () => {
      const refs = opened();
      const names = Array.from({ length: 1201 }, (_, i) => `n/${String(i).padStart(5, "0")}`);
      await Promise.all(names.map((name) => refs.compareAndSet(name, undefined, name)));
      expect((await listed(refs, "n/")).map(([name]) => name)).toEqual(names);
      expect(await listed(refs, "n/", { limit: 700 })).toHaveLength(700);
    });
  });
}
