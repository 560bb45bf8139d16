import { Buffer } from "node:buffer";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Context } from "hono";
import { type Digest, parseDigest } from "../domain/digest.ts";
import { Fault } from "../domain/fault.ts";
import { type ClientRequest, parseFromClient } from "../protocol/client_messages.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Question } from "./gateway.ts";

/** What the routes of the HTTP door read of a request. */
export type Env = {
  Bindings: { readonly incoming: IncomingMessage; readonly outgoing: ServerResponse };
  Variables: { isReadOnly: boolean };
};
export type Ctx = Context<Env>;

const jsonBytesMax = 8 * 1024 * 1024;
/** Between two chunks of a body. */
const bodySilenceMs = 30_000;
/** Of a body that is refused. */
const discardBytesMax = 32 * 1024 * 1024;
const discardMs = 1_000;
const strictUtf8 = new TextDecoder("utf-8", { fatal: true });

/** Bodies of requests, which may come slowly, or not at all. */
export interface Bodies {
  /** Chunk by chunk, for one use. @throws {Fault} `PEER_SILENT` */
  read(c: Ctx): AsyncGenerator<Uint8Array>;
  /** @throws {Fault} `FRAME_TOO_LONG`, `PEER_SILENT` */
  whole(c: Ctx, bytesMax: number): Promise<Uint8Array>;
  /** @throws {Fault} `MEDIA_TYPE_REFUSED`, `REQUEST_INVALID`, and as {@link Bodies.whole} does. */
  json(c: Ctx): Promise<unknown>;
  /**
   * Throws away what has not been read of it, for a while: who sends before listening would otherwise find the connection
   * closed, and not our answer.
   */
  discard(c: Ctx): Promise<void>;
}

export function bodiesOf(clock: Clock): Bodies {
  async function* read(c: Ctx): AsyncGenerator<Uint8Array> {
    const { incoming } = c.env;
    const late = (): void =>
      void incoming.destroy(
        new Fault(
          "PEER_SILENT",
          `Cannot read a body as something must come of it every ${bodySilenceMs} ms: nothing did`,
        ),
      );
    let cancel = clock.at(clock.now() + bodySilenceMs, late);
    try {
      for await (const chunk of incoming.iterator({ destroyOnReturn: false })) {
        cancel();
        yield chunk as Uint8Array;
        cancel = clock.at(clock.now() + bodySilenceMs, late);
      }
    } finally {
      cancel();
    }
  }
  const whole = async (c: Ctx, bytesMax: number): Promise<Uint8Array> => {
    const tooLong = (bytes: number | string): Fault =>
      new Fault(
        "FRAME_TOO_LONG",
        `Cannot take a body as it must be at most ${bytesMax} bytes: current value is ${bytes}`,
      );
    const told = Number(c.req.header("content-length") ?? 0);
    if (told > bytesMax) throw tooLong(told);
    const chunks: Uint8Array[] = [];
    let bytes = 0;
    for await (const chunk of read(c)) {
      bytes += chunk.length;
      if (bytes > bytesMax) throw tooLong("more");
      chunks.push(chunk);
    }
    return chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
  };
  const json = async (c: Ctx): Promise<unknown> => {
    needMediaType(c, "application/json");
    const bytes = await whole(c, jsonBytesMax);
    try {
      return JSON.parse(strictUtf8.decode(bytes));
    } catch (cause) {
      throw new Fault("REQUEST_INVALID", `Cannot read the body as it must be JSON: ${(cause as Error).message}`, {
        cause,
      });
    }
  };
  const discard = ({ env: { incoming } }: Ctx): Promise<void> => {
    const { "content-length": length, "transfer-encoding": coding } = incoming.headers;
    if (incoming.readableEnded || incoming.destroyed || (coding === undefined && Number(length ?? 0) === 0)) {
      return Promise.resolve();
    }
    return new Promise((resolve) => {
      let bytes = 0;
      const hear = (chunk: Uint8Array): void => {
        bytes += chunk.length;
        if (bytes > discardBytesMax) done();
      };
      const done = (): void => {
        cancel();
        incoming.off("data", hear);
        resolve();
      };
      const cancel = clock.at(clock.now() + discardMs, done);
      incoming.on("data", hear);
      incoming.once("end", done);
      incoming.once("close", done);
    });
  };
  return { read, whole, json, discard };
}

/** A question as the one schema has it. @throws {Fault} `REQUEST_INVALID` */
export function question<Type extends Question["type"]>(
  body: { readonly type: Type; readonly [field: string]: unknown },
): Extract<Question, { type: Type }> {
  const request: ClientRequest = parseFromClient({ sentAtMs: 0, body }).body;
  return request as Extract<Question, { type: Type }>;
}

/** Without the fields that are undefined. */
export const pick = (fields: Readonly<Record<string, unknown>>): Record<string, unknown> =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));

export const isOn = (text: string | undefined): boolean => text !== undefined && text !== "0" && text !== "false";

export function wholeNumber(what: string, text: string): number {
  const number = /^[0-9]{1,16}$/.test(text) ? Number(text) : NaN;
  if (Number.isSafeInteger(number)) return number;
  throw new Fault(
    "REQUEST_INVALID",
    `Cannot use ${what} as it must be a whole number: current value is "${text.slice(0, 100)}"`,
  );
}
export const queryNumber = (c: Ctx, name: string): number | undefined => {
  const text = c.req.query(name);
  return text === undefined ? undefined : wholeNumber(name, text);
};

export const pathDigest = (c: Ctx): Digest => parseDigest(`${c.req.param("hash")}/${c.req.param("size")}`);

/** What follows a prefix of the path, decoded. @throws {Fault} `REQUEST_INVALID` */
export function restOf(c: Ctx, prefix: string): string {
  const text = new URL(c.req.url).pathname.slice(prefix.length);
  try {
    return decodeURIComponent(text);
  } catch (cause) {
    throw new Fault(
      "REQUEST_INVALID",
      `Cannot read a path as its %-escapes must be UTF-8: current value is ${text.slice(0, 200)}`,
      { cause },
    );
  }
}

export function needMediaType(c: Ctx, wanted: string): void {
  const given = c.req.header("content-type")?.split(";", 1)[0]?.trim().toLowerCase();
  if (given === wanted) return;
  throw new Fault(
    "MEDIA_TYPE_REFUSED",
    `Cannot take a body as its Content-Type must be ${wanted}: current value is ${given ?? "absent"}`,
  );
}
