import { Buffer } from "node:buffer";
import { createHash, createHmac, timingSafeEqual } from "node:crypto";

/** Compares two secrets in a time that tells neither where they differ nor how long the expected one is. */
export const sameSecret = (given: string, expected: string): boolean =>
  timingSafeEqual(digest(given), digest(expected));

/**
 * The token in an `authorization` header: `Bearer TOKEN`, or `Basic …` with it as the password, for clients whose one way
 * to bring a secret is the address (`http://user:TOKEN@host`).
 */
export function tokenIn(authorization: string | undefined): string | undefined {
  const [, scheme = "", given = ""] = /^(Bearer|Basic) +(.+)$/i.exec(authorization ?? "") ?? [];
  if (scheme.toLowerCase() !== "basic") return given === "" ? undefined : given;
  const text = Buffer.from(given, "base64").toString("utf8");
  return text.includes(":") ? text.slice(text.indexOf(":") + 1) : undefined;
}

/** Of a cluster's token: who has it may look, and no more. It follows from the token, so that there is nothing to keep. */
export const viewTokenOf = (token: string): string =>
  createHmac("sha256", token).update("scoot-actors: to look, and no more").digest("base64url");

const digest = (text: string): Uint8Array => createHash("sha256").update(text).digest();
