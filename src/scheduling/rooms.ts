/** What is free at a place, or the most of each that one of several has. Infinite where nobody counts it. */
export interface Room {
  readonly slots: number;
  readonly cpuMillis: number;
  readonly memoryBytes: number;
}

/**
 * Finds a place with enough room among many: a tree in which each node has the most slots, processor and memory of the
 * places below it. A place without a free slot has no room at all. To set costs the logarithm of the places; so does to
 * find, unless both processor and memory are asked for and places have much of the one and little of the other.
 */
export class Rooms {
  /** Places there can be: a power of two. Node 1 is the root, node n has 2n and 2n + 1, and places begin at `#width`. */
  #width = 1;
  #slots = new Float64Array(2).fill(-1);
  #cpu = new Float64Array(2).fill(-1);
  #memory = new Float64Array(2).fill(-1);

  /** Of all places, the most of each. Negative: there is none with a free slot. */
  get most(): Room {
    return { slots: this.#slots[1]!, cpuMillis: this.#cpu[1]!, memoryBytes: this.#memory[1]! };
  }

  /** @returns whether {@link most} changed. */
  set(place: number, slots: number, cpuMillis: number, memoryBytes: number): boolean {
    if (place >= this.#width) this.#widen(place);
    let node = this.#width + place;
    const isFree = slots > 0;
    if (!this.#write(node, isFree ? slots : -1, isFree ? cpuMillis : -1, isFree ? memoryBytes : -1)) return false;
    const { max } = Math;
    for (node >>= 1; node > 0; node >>= 1) {
      const one = 2 * node;
      const other = one + 1;
      const changed = this.#write(
        node,
        max(this.#slots[one]!, this.#slots[other]!),
        max(this.#cpu[one]!, this.#cpu[other]!),
        max(this.#memory[one]!, this.#memory[other]!),
      );
      if (!changed) return false;
    }
    return true;
  }

  /**
   * A place with a free slot and at least that much; -1: there is none. The one with the most free slots and of equals the
   * first, which is exact when nothing else is asked for.
   */
  find(cpuMillis: number, memoryBytes: number, node = 1): number {
    if (this.#slots[node]! <= 0 || this.#cpu[node]! < cpuMillis || this.#memory[node]! < memoryBytes) return -1;
    if (node >= this.#width) return node - this.#width;
    const left = 2 * node;
    const isRightFirst = this.#slots[left + 1]! > this.#slots[left]!;
    const found = this.find(cpuMillis, memoryBytes, isRightFirst ? left + 1 : left);
    return found >= 0 ? found : this.find(cpuMillis, memoryBytes, isRightFirst ? left : left + 1);
  }

  #write(node: number, slots: number, cpu: number, memory: number): boolean {
    if (this.#slots[node] === slots && this.#cpu[node] === cpu && this.#memory[node] === memory) return false;
    this.#slots[node] = slots;
    this.#cpu[node] = cpu;
    this.#memory[node] = memory;
    return true;
  }

  #widen(place: number): void {
    const [slots, cpu, memory, width] = [this.#slots, this.#cpu, this.#memory, this.#width];
    while (this.#width <= place) this.#width *= 2;
    this.#slots = new Float64Array(2 * this.#width).fill(-1);
    this.#cpu = new Float64Array(2 * this.#width).fill(-1);
    this.#memory = new Float64Array(2 * this.#width).fill(-1);
    for (let at = 0; at < width; at++) {
      this.set(at, slots[width + at]!, cpu[width + at]!, memory[width + at]!);
    }
  }
}
