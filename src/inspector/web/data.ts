import type { Routes } from "../routes.ts";

/**
 * The token comes once by the address (`#token=…`) or by hand. It stays with this tab, and with others of this page that are
 * opened while it is there: what is written down in a browser for good, whoever has the port later could read.
 */
const tokenKey = "scoot-actors.token";
const tabs = new BroadcastChannel(tokenKey);
/** For other tabs to answer; they are in the same browser. */
const askMs = 200;

const kept = (): string => sessionStorage.getItem(tokenKey) ?? "";
tabs.onmessage = ({ data }: MessageEvent<{ readonly wants?: true; readonly token?: string }>): void => {
  if (data.wants === true && kept() !== "") tabs.postMessage({ token: kept() });
  if (typeof data.token === "string" && kept() === "") sessionStorage.setItem(tokenKey, data.token);
};

export const token = {
  get: kept,
  set: (text: string): void => sessionStorage.setItem(tokenKey, text.trim()),
  /** From another tab of this page, if there is none here; resolves at once when it comes, or soon. */
  borrow: (): Promise<void> =>
    new Promise((resolve) => {
      if (kept() !== "") return resolve();
      const done = (): void => {
        tabs.removeEventListener("message", hear);
        resolve();
      };
      const hear = (): void => void (kept() !== "" && done()); // another tab may want one too
      tabs.addEventListener("message", hear);
      tabs.postMessage({ wants: true });
      setTimeout(done, askMs);
    }),
};

/** A refusal, in the words of the cluster. */
export class Refusal extends Error {
  readonly code: string;
  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

let borrowed: Promise<void> | undefined;

async function call(path: string, signal?: AbortSignal): Promise<Response> {
  await (borrowed ??= token.borrow());
  let response: Response;
  try {
    response = await fetch(path, {
      headers: { authorization: `Bearer ${token.get()}` },
      ...(signal === undefined ? {} : { signal }),
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refusal("PEER_UNREACHABLE", "The cluster does not answer. It is asked again in a moment.");
  }
  if (response.ok) return response;
  const { code, message } = await response.json().catch(() => ({ code: "INTERNAL", message: response.statusText }));
  throw new Refusal(code, message);
}

// deno-lint-ignore no-explicit-any -- each caller names the shape of the route that it asks
export async function ask<Answer = any>(
  path: string,
  query: Readonly<Record<string, string | number | undefined | readonly string[]>> = {},
  signal?: AbortSignal,
): Promise<Answer> {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value === undefined || value === "") continue;
    if (typeof value === "object") { for (const one of value) search.append(name, one); }
    else search.set(name, String(value));
  }
  const text = search.toString();
  return await (await call(`${path}${text === "" ? "" : `?${text}`}`, signal)).json();
}

/** The chunks of a stream, as they come. */
export async function* stream(path: string, signal: AbortSignal): AsyncGenerator<string> {
  const response = await call(path, signal);
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield value;
  }
}

/** Asks one of the inspector's routes: what it may be asked with and what it answers stands in routes.ts. */
export const inspect = <Name extends keyof Routes>(
  name: Name,
  asked: Routes[Name]["asked"],
  signal?: AbortSignal,
): Promise<Routes[Name]["answer"]> =>
  ask<Routes[Name]["answer"]>(`/v1/inspect/${name}`, asked as Readonly<Record<string, string>>, signal);
