/** Between two looks at what goes on changing: in proportion, so that who looks takes little of what works. Pure. */
export const restMs = (tookMs: number): number => Math.min(restMsMax, Math.max(restMsMin, tookMs * restPerLook));

const restMsMin = 200;
const restMsMax = 2_000;
const restPerLook = 15;
