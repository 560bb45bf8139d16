import { Buffer } from "node:buffer";

/**
 * The same text with memory of its own. A piece of a decoded message is a view of the whole message in V8, and keeps it
 * alive: what is kept long must be copied.
 */
export const ownCopy = <Text extends string>(text: Text): Text =>
  Buffer.from(text, "utf16le").toString("utf16le") as Text;
