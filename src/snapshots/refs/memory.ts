import type { Refs } from "./refs.ts";
import { nameBytes, refConflict, valueBytes } from "./name.ts";

/** Refs in this process's memory. */
export function memoryRefs(): Refs {
  const values = new Map<string, string>();
  return {
    async get(name) {
      nameBytes(name);
      return await Promise.resolve(values.get(name));
    },
    async compareAndSet(name, expected, next) {
      nameBytes(name);
      if (next !== undefined) valueBytes(next);
      const present = values.get(name);
      if (present !== expected) throw refConflict(name, expected, present);
      if (next === undefined) values.delete(name);
      else values.set(name, next);
      await Promise.resolve();
    },
    async *list(prefix, options = {}) {
      const after = options.after === undefined ? undefined : Buffer.from(options.after);
      const found = [...values.keys()]
        .filter((name) => name.startsWith(prefix))
        .map((name) => Buffer.from(name))
        .filter((name) => after === undefined || Buffer.compare(name, after) > 0)
        .sort(Buffer.compare)
        .slice(0, options.limit);
      for (const bytes of found) {
        const name = bytes.toString();
        const value = values.get(name);
        if (value !== undefined) yield await Promise.resolve([name, value] as const);
      }
    },
    close: () => Promise.resolve(),
  };
}
