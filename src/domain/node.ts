import type { Digest } from "./digest.ts";

/** One entry of a directory, as REAPI's `Directory` has it. */
export type Node =
  | { readonly kind: "file"; readonly name: string; readonly digest: Digest; readonly executable: boolean }
  | { readonly kind: "directory"; readonly name: string; readonly digest: Digest }
  | { readonly kind: "symlink"; readonly name: string; readonly target: string };
