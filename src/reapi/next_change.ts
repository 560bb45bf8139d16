/**
 * Resolves when one of those that wait for a change is called, or what `also` wakes it by; fails with the signal's reason.
 *
 * @param changed who waits; none of it stays there.
 * @param also begins another reason to wake, a timer, and returns how it is cancelled.
 */
export function nextChange(
  changed: Set<() => void>,
  signal: AbortSignal,
  also: (wake: () => void) => () => void = () => () => {},
): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = (): void => {
      changed.delete(onChange);
      cancel();
      signal.removeEventListener("abort", onGone);
    };
    const onChange = (): void => {
      end();
      resolve();
    };
    const onGone = (): void => {
      end();
      reject(signal.reason);
    };
    const cancel = also(onChange);
    changed.add(onChange);
    signal.addEventListener("abort", onGone, { once: true });
    if (signal.aborted) onGone();
  });
}
