import type { Routes } from "../routes.ts";

/** What the page asks. The token comes once by the address (`#token=…`) or by hand, and stays with this browser. */
const tokenKey = "scoot-actors.token";

export const token = {
  get: (): string => localStorage.getItem(tokenKey) ?? "",
  set: (text: string): void => localStorage.setItem(tokenKey, text.trim()),
};

/** A refusal, in the words of the cluster. */
export class Refusal extends Error {
  readonly code: string;
  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

async function call(path: string, signal?: AbortSignal): Promise<Response> {
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
