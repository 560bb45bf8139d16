/** Names that are one name where case does not count, or where letters with marks are taken apart (macOS, Windows). */

/** How such a file system tells names apart, as nearly as Unicode's own rules say. */
const folded = (name: string): string => name.normalize("NFC").toUpperCase().toLowerCase().normalize("NFC");

/** Pairs of different names of one folder that would be one, each with the first of its kind. */
export function collisionsIn(names: readonly string[]): (readonly [string, string])[] {
  if (!names.some((name) => /[A-Z\x80-\uffff]/.test(name))) return []; // mostly
  const first = new Map<string, string>();
  const found: (readonly [string, string])[] = [];
  for (const name of names) {
    const key = folded(name);
    const other = first.get(key);
    if (other === undefined) first.set(key, name);
    else if (other !== name) found.push([other, name]);
  }
  return found;
}
