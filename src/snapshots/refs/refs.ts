/** A name that moves. The second of the four store ideas; the action cache will be refs too. */
export interface Refs {
  /** What the name points to, or undefined. */
  get(name: string): Promise<string | undefined>;
  /**
   * Moves the name if it still points where `expected` says; durable when it resolves.
   *
   * @param expected what the name must point to now; undefined: the name must not exist.
   * @param next undefined removes the name.
   * @throws {Fault} `REF_CONFLICT` naming the present value when it is another.
   */
  compareAndSet(name: string, expected: string | undefined, next: string | undefined): Promise<void>;
  /** Names that start with `prefix`, in byte order, from `after` (exclusive). */
  list(
    prefix: string,
    options?: { readonly after?: string; readonly limit?: number },
  ): AsyncIterable<readonly [name: string, value: string]>;
  close(): Promise<void>;
}
