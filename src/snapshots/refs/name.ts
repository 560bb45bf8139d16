import { Fault } from "../../domain/fault.ts";

export const nameBytesMax = 512;
// deno-lint-ignore no-control-regex
const controls = /[\u0000-\u001f\u007f-\u009f]/;

/**
 * The UTF-8 bytes of a ref's name: 1–512 of them, no control characters, no half of a surrogate pair.
 *
 * @throws {Fault} `REQUEST_INVALID`
 */
export function nameBytes(name: string): Uint8Array {
  const bytes = Buffer.from(name, "utf8");
  if (bytes.length === 0 || bytes.length > nameBytesMax) {
    throw new Fault(
      "REQUEST_INVALID",
      `Cannot use a ref as its name must be 1 to ${nameBytesMax} bytes of UTF-8: current value has ${bytes.length}`,
    );
  }
  if (controls.test(name) || bytes.toString("utf8") !== name) {
    throw new Fault(
      "REQUEST_INVALID",
      `Cannot use a ref as its name must be Unicode without control characters: current value is ${
        JSON.stringify(name)
      }`,
    );
  }
  return bytes;
}

/** A value is at most this long, in bytes of UTF-8: a ref names something, it does not hold it. */
export const valueBytesMax = 64 * 1024;

/** @throws {Fault} `REQUEST_INVALID` */
export function valueBytes(value: string): Uint8Array {
  const bytes = Buffer.from(value, "utf8");
  if (bytes.length > valueBytesMax) {
    throw new Fault(
      "REQUEST_INVALID",
      `Cannot move a ref as its value must be at most ${valueBytesMax} bytes: current value has ${bytes.length}`,
    );
  }
  return bytes;
}

const shown = (value: string | undefined): string => value === undefined ? "nothing" : JSON.stringify(value);

/** The fault of a name that points elsewhere than was thought. */
export const refConflict = (name: string, expected: string | undefined, present: string | undefined): Fault =>
  new Fault(
    "REF_CONFLICT",
    `Cannot move ref ${name} as it must point to ${shown(expected)}: current value is ${shown(present)}`,
  );
