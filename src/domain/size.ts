const units: Readonly<Record<string, number>> = {
  "": 1,
  K: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
};

/**
 * Bytes as people write them: `500M` are 500,000,000 and `500Mi` 524,288,000; a B may follow (IEC 80000-13).
 *
 * @returns whole bytes, rounded down; undefined for what is no size.
 */
export function readSize(text: string): number | undefined {
  const [, number, unit = ""] = /^([0-9]{1,12}(?:\.[0-9]{1,9})?)((?:[KMGT]i?)?)B?$/.exec(text) ?? [];
  return number === undefined ? undefined : Math.floor(Number(number) * units[unit]!);
}
