import type { ActionCache, CachedAction } from "../../src/snapshots/actions/actions.ts";

/** As much of an action cache as the services need: what they are given, they keep. */
export function memoryActions(): ActionCache {
  const held = new Map<string, CachedAction>();
  const nameOf = ({ instance, action }: CachedAction["key"]): string => `${action} ${instance}`;
  return {
    get: (key) => Promise.resolve(held.get(nameOf(key))),
    put(key, result, made) {
      held.set(nameOf(key), { key, result: Uint8Array.from(result), made });
      return Promise.resolve({ kind: "stored" });
    },
  } as Partial<ActionCache> as ActionCache;
}
