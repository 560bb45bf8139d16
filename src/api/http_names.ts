import * as v from "valibot";
import { Fault, isFault } from "../domain/fault.ts";
import { parse } from "../protocol/schema.ts";
import type { Refs } from "../snapshots/refs/refs.ts";
import type { HttpCalls } from "./http_calls.ts";

const named = v.looseObject({ name: v.string(), value: v.string() });
const listed = v.looseObject({ names: v.array(named) });
const pageMax = 1_000;

/** @throws {Fault} `REQUEST_INVALID` for half a surrogate pair, which a URL cannot say. What else is wrong the cluster tells. */
function pathOf(name: string): string {
  try {
    return `/v1/names/${encodeURIComponent(name)}`;
  } catch (cause) {
    throw new Fault(
      "REQUEST_INVALID",
      `Cannot use a name as it must be Unicode: current value is ${JSON.stringify(name)}`,
      { cause },
    );
  }
}

/** Named snapshots, over HTTP. */
export function httpNames(calls: HttpCalls): Refs {
  const names: Refs = {
    async get(name) {
      try {
        return parse(named, "a name", await calls.json({ method: "GET", path: pathOf(name) })).value;
      } catch (thrown) {
        if (isFault(thrown, "REF_UNKNOWN")) return undefined;
        throw thrown;
      }
    },
    async compareAndSet(name, expected, next) {
      const content = new TextEncoder().encode(JSON.stringify({ expected: expected ?? null, value: next ?? null }));
      let tries = 0;
      const body = (): Uint8Array => {
        tries++;
        return content;
      };
      try {
        await calls.bytes({ method: "PUT", path: pathOf(name), type: "application/json", body });
      } catch (thrown) {
        // An earlier try may have moved it, its answer lost.
        if (tries > 1 && isFault(thrown, "REF_CONFLICT") && await names.get(name) === next) return;
        throw thrown;
      }
    },
    async *list(prefix, { after, limit = Infinity } = {}) {
      let left = limit;
      for (let from = after;;) {
        const query = new URLSearchParams({
          prefix,
          limit: String(Math.min(left, pageMax)),
          ...(from === undefined ? {} : { after: from }),
        });
        const page =
          parse(listed, "a list of names", await calls.json({ method: "GET", path: `/v1/names?${query}` })).names;
        for (const { name, value } of page) yield [name, value] as const;
        left -= page.length;
        if (page.length < pageMax || left <= 0) return;
        from = page.at(-1)!.name;
      }
    },
    close: () => Promise.resolve(),
  };
  return names;
}
