import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import nodeModule from "node:module";
import { promisify } from "node:util";
import { gzip } from "node:zlib";

/** A file of the page in the browser. */
export interface InspectorFile {
  readonly bytes: Uint8Array;
  /** The same, where that is shorter. */
  readonly gzipped?: Uint8Array;
  readonly type: string;
  /** Of the bytes, in quotes: W/"…", as it stands for both forms. */
  readonly tag: string;
}

/**
 * Whatever is on the page comes from here, and runs no script but ours; nothing is sent to anybody else, and no other
 * page may frame it.
 */
export const pagePolicy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

const types: Readonly<Record<string, string>> = {
  html: "text/html; charset=utf-8",
  css: "text/css; charset=utf-8",
  svg: "image/svg+xml",
  js: "text/javascript; charset=utf-8",
  ts: "text/javascript; charset=utf-8",
};

/** From sources the modules are TypeScript, and leave here without their types; in the package they are compiled. */
const isSource = import.meta.url.endsWith(".ts");
const kept = new Map<string, Promise<InspectorFile | undefined>>();

/** @param name "index.html"; in the folder web/. Undefined when there is none. */
export function inspectorFile(name: string): Promise<InspectorFile | undefined> {
  const [, base, extension] = /^([a-z][a-z_]{0,40})\.([a-z]{2,4})$/.exec(name) ?? [];
  const type = types[extension ?? ""];
  if (base === undefined || type === undefined) return Promise.resolve(undefined);
  let file = kept.get(name);
  if (file === undefined) {
    file = read(`${base}.${extension === "js" && isSource ? "ts" : extension}`, type);
    // A name that leads to nothing is not kept: there is no end to those.
    void file.then((found) => found !== undefined && kept.set(name, Promise.resolve(found)), () => {});
  }
  return file;
}

async function read(name: string, type: string): Promise<InspectorFile | undefined> {
  let bytes: Uint8Array;
  try {
    bytes = await readFile(new URL(`web/${name}`, import.meta.url));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  if (name.endsWith(".ts")) {
    bytes = new TextEncoder().encode(nodeModule.stripTypeScriptTypes(new TextDecoder().decode(bytes)));
  }
  const gzipped = await promisify(gzip)(bytes, { level: 9 });
  const tag = `W/"${createHash("sha256").update(bytes).digest("base64url").slice(0, 22)}"`;
  return { bytes, type, tag, ...(gzipped.length < bytes.length ? { gzipped } : {}) };
}
