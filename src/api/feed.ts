import { Fault } from "../domain/fault.ts";

/**
 * What is pushed to us, for one reader who takes it at his own pace: a queue that says when it is full and when it has
 * been emptied, so that whoever pushes can stop and begin again where it stood.
 */
export interface Feed<Item> extends AsyncIterable<Item> {
  /** Never refuses: what is already on its way when the feed fills is still taken. Does nothing once over. */
  put(item: Item, weight: number): void;
  /** Nothing more comes: the reader gets what is queued, then the end, or the fault. */
  end(why?: Fault): void;
  /** Resolves when there is room again, or the feed is over: for those who produce by themselves. */
  room(): Promise<void>;
  readonly isFull: boolean;
}

export interface FeedOptions {
  /** The weight in the queue above which it is full. */
  readonly weightMax: number;
  readonly onFull?: () => void;
  /** It was full and the reader has taken all of it. */
  readonly onEmpty?: () => void;
  /** Once: the reader has gone, the end was given, or the signal was aborted. */
  readonly onClose: () => void;
  /** Aborted: the reader gets a `CANCELLED`, without what is queued. */
  readonly signal?: AbortSignal | undefined;
}

export function feed<Item>(options: FeedOptions): Feed<Item> {
  const { weightMax, signal } = options;
  let queue: ({ readonly item: Item; readonly weight: number } | undefined)[] = [];
  let head = 0;
  let weight = 0;
  let isFull = false;
  let ended: { readonly why: Fault | undefined } | undefined;
  let isClosed = false;
  let wake = (): void => {};
  let rooms: (() => void)[] = [];

  const releaseRooms = (): void => {
    const waiting = rooms;
    rooms = [];
    for (const resolve of waiting) resolve();
  };
  const close = (): void => {
    if (isClosed) return;
    isClosed = true;
    queue = [];
    head = 0;
    signal?.removeEventListener("abort", onAbort);
    releaseRooms();
    options.onClose();
    wake();
  };
  const onAbort = (): void => {
    ended ??= { why: new Fault("CANCELLED", "Cannot go on reading: it was cancelled", { cause: signal?.reason }) };
    close();
  };
  const take = (): Item | undefined => {
    const next = queue[head];
    if (next === undefined) return undefined;
    queue[head++] = undefined;
    weight -= next.weight;
    if (head > 1_024 && head * 2 > queue.length) {
      queue = queue.slice(head);
      head = 0;
    }
    if (head === queue.length) {
      queue = [];
      head = 0;
      if (isFull) {
        isFull = false;
        releaseRooms();
        options.onEmpty?.();
      }
    }
    return next.item;
  };
  const next = async (): Promise<IteratorResult<Item>> => {
    for (;;) {
      const item = take();
      if (item !== undefined) return { done: false, value: item };
      if (ended !== undefined) {
        const { why } = ended;
        ended = { why: undefined };
        close();
        if (why !== undefined) throw why;
      }
      if (isClosed) return { done: true, value: undefined };
      await new Promise<void>((resolve) => wake = resolve);
    }
  };

  if (signal?.aborted) queueMicrotask(onAbort);
  else signal?.addEventListener("abort", onAbort, { once: true });
  return {
    put(item, itemWeight) {
      if (isClosed || ended !== undefined) return;
      queue.push({ item, weight: itemWeight });
      weight += itemWeight;
      if (!isFull && weight > weightMax) {
        isFull = true;
        options.onFull?.();
      }
      wake();
    },
    end(why) {
      ended ??= { why };
      wake();
    },
    room() {
      return new Promise((resolve) => {
        rooms.push(resolve);
        if (!isFull || isClosed) releaseRooms();
      });
    },
    get isFull() {
      return isFull;
    },
    [Symbol.asyncIterator]: () => ({
      next,
      return() {
        close();
        return Promise.resolve({ done: true, value: undefined });
      },
    }),
  };
}
