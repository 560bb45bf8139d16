/**
 * A condition that our own code promises. Kept in production: an actor whose promise is broken stops, and its
 * supervisor decides. Never used for what strangers send; that is a {@link Fault}.
 *
 * @throws {Error} "Invariant broken: why" when the condition is false.
 */
export function invariant(condition: unknown, why: string): asserts condition {
  if (!condition) throw new Error(`Invariant broken: ${why}`);
}
