/**
 * How long to rest between two looks: where much happens, so long that who looks takes little of what works; where little
 * does, only so long that several changes at once are one look. Pure.
 *
 * @param tookMs the last look. @param entriesPerSecond how much happens.
 */
export function restMs(tookMs: number, entriesPerSecond: number): number {
  const part = Math.min(1, entriesPerSecond / busyPerSecond);
  return Math.min(restMsMax, Math.max(restMsMin, tookMs * restPerLook * part));
}

const restMsMin = 100;
const restMsMax = 4_000;
/** Where very much happens, looks take one part in so many of the time. */
const restPerLook = 15;
/** Some 300 tasks a second. */
const busyPerSecond = 2_000;
