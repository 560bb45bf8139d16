/** A member of one heap at a time; it knows its place there, so that it can be moved when its key has changed. */
export interface HeapMember {
  /** -1: in no heap. Written by the heap alone. */
  heapAt: number;
}

/**
 * Least first, by a comparison of keys that may change: whoever changes the key of a member says so with `put` before
 * another's key changes. Each call costs at most the logarithm of the members.
 */
export class IndexedHeap<Member extends HeapMember> {
  readonly #members: Member[] = [];
  readonly #isBefore: (a: Member, b: Member) => boolean;

  constructor(isBefore: (a: Member, b: Member) => boolean) {
    this.#isBefore = isBefore;
  }

  get size(): number {
    return this.#members.length;
  }

  peek(): Member | undefined {
    return this.#members[0];
  }

  /** The first is the least; of the others, each comes after the one at half its place. */
  get members(): readonly Member[] {
    return this.#members;
  }

  /** Takes it in, or moves it to where its key now says. */
  put(member: Member): void {
    if (member.heapAt < 0) member.heapAt = this.#members.push(member) - 1;
    this.#up(member);
    this.#down(member);
  }

  /** Does nothing when it is in no heap. */
  remove(member: Member): void {
    const at = member.heapAt;
    if (at < 0) return;
    member.heapAt = -1;
    const last = this.#members.pop()!;
    if (last === member) return;
    this.#members[at] = last;
    last.heapAt = at;
    this.#up(last);
    this.#down(last);
  }

  #up(member: Member): void {
    const members = this.#members;
    let at = member.heapAt;
    while (at > 0) {
      const above = (at - 1) >>> 1;
      const other = members[above]!;
      if (!this.#isBefore(member, other)) break;
      members[at] = other;
      other.heapAt = at;
      at = above;
    }
    members[at] = member;
    member.heapAt = at;
  }

  #down(member: Member): void {
    const members = this.#members;
    const { length } = members;
    let at = member.heapAt;
    for (let below = 2 * at + 1; below < length; below = 2 * at + 1) {
      if (below + 1 < length && this.#isBefore(members[below + 1]!, members[below]!)) below++;
      const other = members[below]!;
      if (!this.#isBefore(other, member)) break;
      members[at] = other;
      other.heapAt = at;
      at = below;
    }
    members[at] = member;
    member.heapAt = at;
  }
}
