import { Buffer } from "node:buffer";
import { type Digest } from "../domain/digest.ts";
import { asFault, Fault } from "../domain/fault.ts";
import { badRequest, sha256Function } from "../protocol/reapi/messages.ts";
import { methods } from "../protocol/reapi/services.ts";
import type { Clock } from "../runtime/clock.ts";
import type { ActionCache } from "../snapshots/actions/actions.ts";
import { type Blobs, isMissing } from "../snapshots/blobs/blobs.ts";
import { type Checksum, fetchFromOrigin, type Origin } from "./asset_origin.ts";
import { type AssetName, assetRecords, msOf, type Qualifier } from "./asset_records.ts";
import { checkDigest, checkScope, DetailedFault, type Instances, type Served, serveUnary } from "./calls.ts";
import { toWire } from "./content_addressable_storage.ts";
import { turns } from "./turns.ts";
import type { Uploads } from "./uploads.ts";

export interface AssetOptions {
  readonly blobs: Blobs;
  readonly actions: ActionCache;
  readonly uploads: Uploads;
  readonly instances: Instances;
  readonly needSpace: (what: string) => void;
  /** How addresses of http and https are asked. */
  readonly fetch: typeof fetch;
  readonly clock: Clock;
  /** Aborted when the gateway stops. */
  readonly stopping: AbortSignal;
}

const urisMax = 100;
const qualifiersMax = 100;
const uriLengthMax = 8_000;
const valueLengthMax = 64 * 1024;
const fetchesAtOnce = 16;
const timeoutMsDefault = 600_000;
const timeoutMsMax = 3_600_000;

const checksumName = "checksum.sri";
const canonicalIdName = "bazel.canonical_id";
const authName = "bazel.auth_headers";
const headerForm = /^http_header(?:_url:(\d{1,3}))?:(.+)$/;

/** Whether it says how to fetch, and not what: what was pushed is found whatever is said of that. */
const isOfTransport = ({ name }: Qualifier): boolean => name === authName || headerForm.test(name);

interface AskedAssets {
  readonly instanceName: string;
  readonly digestFunction: number;
  readonly uris: readonly string[];
  readonly qualifiers: readonly Qualifier[];
}

/** Content that is known by addresses: as it was pushed, or as it lies there. */
export function serveAssets(served: Served, options: AssetOptions): void {
  const { blobs, instances, needSpace, clock, stopping } = options;
  const records = assetRecords(options.actions, clock);
  const turnFor = turns(fetchesAtOnce);
  /** Fetches go on though who asked has gone: who asks again finds what came of them. */
  const underWay = new Map<string, Promise<{ readonly uri: string; readonly digest: Digest }>>();

  const check = (request: AskedAssets): string => {
    const instance = checkScope(instances, request);
    const { uris, qualifiers } = request;
    if (
      uris.length === 0 || uris.length > urisMax || uris.some((uri) => uri === "" || uri.length > uriLengthMax)
    ) {
      throw invalid(`it must have from 1 to ${urisMax} URIs of at most ${uriLengthMax} characters`);
    }
    const names = new Set(qualifiers.map(({ name }) => name));
    if (
      names.size !== qualifiers.length || names.has("") || names.size > qualifiersMax ||
      qualifiers.some(({ name, value }) => name.length + value.length > valueLengthMax)
    ) {
      throw invalid(`it may have at most ${qualifiersMax} qualifiers, each with a name of its own`);
    }
    return instance;
  };
  const namesOf = (instance: string, kind: AssetName["kind"], { uris, qualifiers }: AskedAssets): AssetName[] => {
    const own = qualifiers.filter((each) => !isOfTransport(each));
    return uris.map((uri) => ({ instance, kind, uri, qualifiers: own }));
  };
  const findNoted = async (names: readonly AssetName[], notBeforeMs: number, signal: AbortSignal) => {
    for (const name of names) {
      const digest = await records.find(name, notBeforeMs, signal);
      if (digest !== undefined) return { uri: name.uri, digest };
    }
    return undefined;
  };

  /** @throws {Fault} what the last of the addresses came to. */
  const fetchOne = async (origins: readonly Origin[], names: readonly AssetName[], timeoutMs: number) => {
    const late = new AbortController();
    const cancelTimer = clock.at(
      clock.now() + timeoutMs,
      () => late.abort(new Fault("PEER_SILENT", `Cannot fetch within ${timeoutMs / 1_000} s: try again for longer`)),
    );
    const signal = AbortSignal.any([late.signal, stopping]);
    let trouble: Fault | undefined;
    try {
      for (const origin of origins) {
        try {
          const digest = await fetchFromOrigin(origin, options, signal);
          // What has no checksum may be something else tomorrow.
          if (origin.checksums.length > 0) {
            const asset = { digest, blobs: [], directories: [], expiresAtMs: undefined };
            await Promise.all(names.map((name) => records.note(name, asset)));
          }
          return { uri: origin.uri, digest };
        } catch (thrown) {
          trouble = asFault(thrown);
          if (signal.aborted || trouble.code === "NO_SPACE" || trouble.code === "INTERNAL") break;
        }
      }
    } finally {
      cancelTimer();
    }
    throw trouble!;
  };

  serveUnary(served, methods.fetchBlob, async (request, { signal }) => {
    const instance = check(request);
    const { uris, qualifiers, timeout, oldestContentAccepted } = request;
    const answer = ({ uri, digest }: { readonly uri: string; readonly digest: Digest }) => ({
      ...fine,
      uri,
      blobDigest: toWire(digest),
    });
    const names = namesOf(instance, "blob", request);
    const notBeforeMs = oldestContentAccepted === undefined ? -Infinity : msOf(oldestContentAccepted);
    const noted = await findNoted(names, notBeforeMs, signal);
    if (noted !== undefined) return answer(noted);
    refuseUnsupported(qualifiers);
    const checksums = checksumsOf(qualifiers);
    const origins = originsOf(uris, qualifiers, checksums);
    for (const { algorithm, hex } of checksums) {
      const digest = algorithm === "sha256" ? blobs.find?.(hex) : undefined;
      if (digest !== undefined && !await isMissing(blobs, digest)) return answer({ uri: uris[0]!, digest });
    }
    if (origins.length === 0) throw unknown(uris);
    const key = JSON.stringify([instance, uris, qualifiers]);
    let fetched = underWay.get(key);
    if (fetched === undefined) {
      const askedMs = timeout === undefined ? timeoutMsDefault : msOf(timeout);
      const timeoutMs = Math.min(Math.max(1, askedMs), timeoutMsMax);
      fetched = turnFor(() => fetchOne(origins, names, timeoutMs)).finally(() => underWay.delete(key));
      underWay.set(key, fetched);
    }
    return answer(await fetched);
  });

  serveUnary(served, methods.fetchDirectory, async (request, { signal }) => {
    const instance = check(request);
    const { oldestContentAccepted: oldest, uris } = request;
    const names = namesOf(instance, "directory", request);
    const noted = await findNoted(names, oldest === undefined ? -Infinity : msOf(oldest), signal);
    if (noted === undefined) throw unknown(uris);
    return { ...fine, uri: noted.uri, rootDirectoryDigest: toWire(noted.digest) };
  });

  const push = async (
    kind: AssetName["kind"],
    request: Omit<Parameters<typeof methods.pushBlob.request.encode>[0] & AskedAssets, "blobDigest">,
    given: Parameters<typeof checkDigest>[0],
  ): Promise<Record<string, never>> => {
    const instance = check(request);
    const { referencesBlobs = [], referencesDirectories = [], expireAt } = request;
    const asset = {
      digest: checkDigest(given, "an asset"),
      blobs: referencesBlobs.map((each) => checkDigest(each, "a blob that an asset refers to")),
      directories: referencesDirectories.map((each) => checkDigest(each, "a folder that an asset refers to")),
      expiresAtMs: expireAt === undefined ? undefined : msOf(expireAt),
    };
    needSpace("an asset");
    for (const name of namesOf(instance, kind, request)) await records.note(name, asset);
    return {};
  };
  serveUnary(served, methods.pushBlob, (request) => push("blob", request, request.blobDigest));
  serveUnary(served, methods.pushDirectory, (request) => push("directory", request, request.rootDirectoryDigest));
}

const fine = { status: { code: 0, message: "", details: [] }, digestFunction: sha256Function } as const;

const invalid = (must: string): Fault => new Fault("REQUEST_INVALID", `Cannot take a request for an asset as ${must}`);

const unknown = (uris: readonly string[]): Fault =>
  new Fault("ASSET_UNKNOWN", `There is nothing known by ${uris[0]!.slice(0, 300)}: push it, or ask by http or https`);

/** @throws {Fault} `REQUEST_INVALID`, saying which, as the API wants it. */
function refuseUnsupported(qualifiers: readonly Qualifier[]): void {
  const others = qualifiers.filter((each) =>
    each.name !== checksumName && each.name !== canonicalIdName && !isOfTransport(each)
  );
  if (others.length === 0) return;
  const names = others.map(({ name }) => name.slice(0, 200));
  const value = badRequest.encode({
    fieldViolations: names.map((name) => ({ field: "qualifiers.name", description: `"${name}" not supported` })),
  });
  throw new DetailedFault(
    "REQUEST_INVALID",
    `Cannot fetch an asset as its qualifiers must be ones that can be kept to: ${
      names.join(", ").slice(0, 500)
    } cannot`,
    [{ type: "google.rpc.BadRequest", value }],
  );
}

const digestBytes = { sha256: 32, sha384: 48, sha512: 64 } as const;

function checksumsOf(qualifiers: readonly Qualifier[]): readonly Checksum[] {
  const given = qualifiers.find(({ name }) => name === checksumName)?.value;
  if (given === undefined) return [];
  const found = given.split(/\s+/).filter((part) => part !== "").map((part): Checksum => {
    const [, algorithm, base64] = /^(sha256|sha384|sha512)-([A-Za-z0-9+/]+={0,2})(?:\?.*)?$/.exec(part) ?? [];
    const bytes = Buffer.from(base64 ?? "", "base64");
    if (algorithm === undefined || bytes.length !== digestBytes[algorithm as Checksum["algorithm"]]) {
      throw invalid(`${checksumName} must be sha256-, sha384- or sha512- and the checksum in base64`);
    }
    return { algorithm: algorithm as Checksum["algorithm"], hex: bytes.toString("hex") };
  });
  if (found.length === 0) throw invalid(`${checksumName} must have a checksum`);
  return found;
}

/** Those of the addresses that can be asked, with the headers that are meant for each. */
function originsOf(
  uris: readonly string[],
  qualifiers: readonly Qualifier[],
  checksums: readonly Checksum[],
): readonly Origin[] {
  const auth = authOf(qualifiers.find(({ name }) => name === authName)?.value);
  return uris.flatMap((uri, place): Origin[] => {
    if (!/^https?:\/\//i.test(uri) || !URL.canParse(uri)) return [];
    // As it lies there: a checksum is of that.
    const headers = new Headers({ "accept-encoding": "identity" });
    try {
      for (const { name, value } of qualifiers) {
        const [, index, header] = headerForm.exec(name) ?? [];
        if (header !== undefined && (index === undefined || Number(index) === place)) headers.set(header, value);
      }
      for (const [header, value] of Object.entries(auth[uri] ?? {})) headers.set(header, String(value));
    } catch {
      throw invalid("its headers must be ones that HTTP can have");
    }
    return [{ uri, headers, checksums }];
  });
}

/** By address: headers. */
function authOf(json: string | undefined): Readonly<Record<string, Readonly<Record<string, unknown>>>> {
  if (json === undefined) return {};
  try {
    const given: unknown = JSON.parse(json);
    if (typeof given === "object" && given !== null) return given as ReturnType<typeof authOf>;
  } catch {
    // told below
  }
  throw invalid(`${authName} must be JSON: addresses, and the headers of each`);
}
