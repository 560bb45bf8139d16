/** Hashes with a small number each, in 34 to 68 bytes of memory a piece. */
export interface KeySet {
  /** Whether it was not there yet; the first value stays. @param value from 0 to 254. */
  add(key: Uint8Array, value: number): boolean;
  get(key: Uint8Array): number | undefined;
  readonly size: number;
}

/** Of a hash so much is kept: two that agree in it are 2^64 tries away for who wants them to. */
const keptBytes = 16;

/** An open-addressing table of SHA-256 hashes, which are evenly spread by themselves. */
export function keySet(): KeySet {
  let slots = 1024;
  let keys = new Uint32Array(slots * 4);
  let values = new Uint8Array(slots); // value + 1; 0: free
  let size = 0;

  const wordsOf = (key: Uint8Array): Uint32Array => {
    const words = new Uint32Array(4);
    new Uint8Array(words.buffer).set(key.subarray(0, keptBytes));
    return words;
  };
  /** Where those words are, or the free slot where they belong. */
  function slotOf(a: number, b: number, c: number, d: number): number {
    for (let slot = a & (slots - 1);; slot = (slot + 1) & (slots - 1)) {
      if (values[slot] === 0) return slot;
      const at = slot * 4;
      if (keys[at] === a && keys[at + 1] === b && keys[at + 2] === c && keys[at + 3] === d) return slot;
    }
  }
  function grow(): void {
    const [oldKeys, oldValues] = [keys, values];
    slots *= 2;
    keys = new Uint32Array(slots * 4);
    values = new Uint8Array(slots);
    for (let old = 0; old < oldValues.length; old++) {
      if (oldValues[old] === 0) continue;
      const words = oldKeys.subarray(old * 4, old * 4 + 4);
      const slot = slotOf(words[0]!, words[1]!, words[2]!, words[3]!);
      keys.set(words, slot * 4);
      values[slot] = oldValues[old]!;
    }
  }

  return {
    add(key, value) {
      const words = wordsOf(key);
      let slot = slotOf(words[0]!, words[1]!, words[2]!, words[3]!);
      if (values[slot] !== 0) return false;
      if (size * 2 >= slots) {
        grow();
        slot = slotOf(words[0]!, words[1]!, words[2]!, words[3]!);
      }
      keys.set(words, slot * 4);
      values[slot] = value + 1;
      size++;
      return true;
    },
    get(key) {
      const words = wordsOf(key);
      const value = values[slotOf(words[0]!, words[1]!, words[2]!, words[3]!)]!;
      return value === 0 ? undefined : value - 1;
    },
    get size() {
      return size;
    },
  };
}
