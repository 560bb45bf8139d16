import { noOutputs, type Timestamp } from "../domain/action_result.ts";
import type { Digest } from "../domain/digest.ts";
import { decodeActionResult, encodeActionResult } from "../protocol/reapi/action_result.ts";
import type { Clock } from "../runtime/clock.ts";
import type { ActionCache, ActionKey } from "../snapshots/actions/actions.ts";
import { digestOf } from "../snapshots/blobs/blobs.ts";

/** Of an asset: "checksum.sri", for example, and its value. */
export interface Qualifier {
  readonly name: string;
  readonly value: string;
}

export interface AssetName {
  readonly instance: string;
  readonly kind: "blob" | "directory";
  readonly uri: string;
  /** In any order; what only says how to fetch it is not among them. */
  readonly qualifiers: readonly Qualifier[];
}

export interface Asset {
  /** Of a `Directory`, for one. */
  readonly digest: Digest;
  /** What it is of no use without. */
  readonly blobs: readonly Digest[];
  readonly directories: readonly Digest[];
  /** Epoch ms; undefined: as long as there is room. */
  readonly expiresAtMs: number | undefined;
}

/** What is known by an address, as long as all of it is here. */
export interface AssetRecords {
  /** @param notBeforeMs when it was noted at the earliest. */
  find(name: AssetName, notBeforeMs: number, signal?: AbortSignal): Promise<Digest | undefined>;
  /** Instead of what was noted before. @throws {Fault} `OUTPUT_MISSING` for what is not here, `NO_SPACE`. */
  note(name: AssetName, asset: Asset): Promise<void>;
}

export const msOf = ({ seconds, nanos }: Timestamp): number => seconds * 1_000 + nanos / 1e6;

/**
 * They are entries of the action cache, in an instance whose name nobody can use: results with the asset as an output, so
 * that it is known only while it is here, and stays when it is asked for.
 */
export function assetRecords(actions: ActionCache, clock: Clock): AssetRecords {
  const keyOf = ({ instance, kind, uri, qualifiers }: AssetName): ActionKey => {
    const sorted = qualifiers.map(({ name, value }) => [name, value]).sort(([a], [b]) => a! < b! ? -1 : 1);
    return {
      instance: `${instance === "" ? "" : `${instance}/`}uploads`,
      action: digestOf(new TextEncoder().encode(JSON.stringify([kind, uri, sorted]))),
    };
  };
  return {
    async find(name, notBeforeMs, signal) {
      const key = keyOf(name);
      if (!actions.knows(key)) return undefined;
      const found = await actions.get(key, signal === undefined ? {} : { signal });
      if (found === undefined || found.made.atMs < notBeforeMs) return undefined;
      const { outputFiles, outputDirectories, outputSymlinks: [expiry] } = decodeActionResult(found.result);
      if (expiry !== undefined && Number(expiry.target) <= clock.now()) return undefined;
      const all = name.kind === "blob" ? outputFiles : outputDirectories;
      const asset = all.find(({ path }) => path === "asset");
      return asset === undefined ? undefined : "digest" in asset ? asset.digest : asset.rootDirectory;
    },
    async note(name, { digest, blobs, directories, expiresAtMs }) {
      const key = keyOf(name);
      const file = (path: string, of: Digest) => ({ path, digest: of, executable: false });
      const folder = (path: string, of: Digest) => ({ path, rootDirectory: of, isTopologicallySorted: false });
      const result = encodeActionResult({
        ...noOutputs,
        outputFiles: [
          ...name.kind === "blob" ? [file("asset", digest)] : [],
          ...blobs.map((each, place) => file(`blob ${place}`, each)),
        ],
        outputDirectories: [
          ...name.kind === "directory" ? [folder("asset", digest)] : [],
          ...directories.map((each, place) => folder(`directory ${place}`, each)),
        ],
        outputSymlinks: expiresAtMs === undefined ? [] : [{ path: "expires", target: String(expiresAtMs) }],
        exitCode: 0,
        stdoutRaw: new TextEncoder().encode(`${name.uri}\n`),
      });
      const put = () =>
        actions.put(key, result, { by: "upload", atMs: clock.now(), durationMs: 0 }, { replace: true, checked: true });
      if ((await put()).kind !== "same") return;
      await actions.remove(key); // so that it is as new as this note
      await put();
    },
  };
}
