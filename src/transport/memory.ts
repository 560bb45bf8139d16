import { Fault } from "../domain/fault.ts";
import type { Clock } from "../runtime/clock.ts";
import { acceptOver, type ByteStream, type ByteStreamEvents, dialOver, limitsDefault } from "./connection.ts";
import { sameSecret } from "./secret.ts";
import type { AcceptOptions, Connection, DialOptions, Listener } from "./transport.ts";

export interface MemoryTransport {
  /**
   * Listens at `memory:<name>`.
   *
   * @throws {Fault} `PORT_BUSY` when somebody listens there already.
   */
  listen(options: AcceptOptions & { readonly name: string }): Promise<Listener>;
  /** @throws {Fault} `PEER_UNREACHABLE` when nobody listens there, and what `dialOver` throws. */
  dial(address: string, options: DialOptions): Promise<Connection>;
  /** The bare byte stream to a listener: for tests, which speak wrongly, and for a simulated network in between. */
  connect(address: string): ByteStream;
}

/**
 * A transport inside one process. Messages are really encoded, framed and decoded, so nothing is shared, and what works
 * here works over a wire.
 *
 * @param options.later when written bytes arrive: at a later turn of the event loop by default; a simulation gives its
 *   own scheduler, and is deterministic.
 */
export function memoryTransport(
  options: { readonly clock: Clock; readonly later?: (work: () => void) => void },
): MemoryTransport {
  const { clock, later = (work) => void setImmediate(work) } = options;
  const ports = { clock, later, sameSecret };
  const listening = new Map<string, AcceptOptions>();
  let streams = 0;

  const connect = (address: string): ByteStream => {
    const listener = listening.get(address);
    if (listener === undefined) {
      throw new Fault("PEER_UNREACHABLE", `Cannot dial ${address}: nobody listens there`);
    }
    const number = ++streams;
    const [ours, theirs] = streamPair(later, [address, `memory:${number}`]);
    acceptOver(theirs, listener, ports);
    return ours;
  };

  return {
    connect,
    // deno-lint-ignore require-await -- so that a fault rejects
    async listen(options) {
      const address = `memory:${options.name}`;
      if (listening.has(address)) {
        throw new Fault("PORT_BUSY", `Cannot listen at ${address} as it must be free: somebody listens there`);
      }
      listening.set(address, options);
      return {
        address,
        close() {
          if (listening.get(address) === options) listening.delete(address);
          return Promise.resolve();
        },
      };
    },
    // deno-lint-ignore require-await -- so that a fault rejects
    async dial(address, options) {
      const deadlineAtMs = clock.now() + (options.limits?.handshakeMs ?? limitsDefault.handshakeMs);
      return dialOver(connect(address), address, { ...options, deadlineAtMs }, ports);
    },
  };
}

/** Two ends of one stream. What one writes waits in the other's inbox until `later` calls, or for as long as it pauses. */
function streamPair(
  later: (work: () => void) => void,
  remotes: readonly [string, string],
): readonly [ByteStream, ByteStream] {
  const ends = [newEnd(), newEnd()] as const;

  const deliverSoon = (to: End, from: End): void => {
    if (to.isDue) return;
    to.isDue = true;
    later(() => {
      to.isDue = false;
      deliver(to, from);
    });
  };
  const deliver = (to: End, from: End): void => {
    if (to.events === undefined || to.isOver) return;
    while (!to.isPaused && !to.isOver && to.inbox.length > 0) {
      const chunk = to.inbox.shift() as Uint8Array;
      to.inboxBytes -= chunk.length;
      to.events.onBytes(chunk);
      from.events?.onTaken();
    }
    const nothingComes = to.inbox.length === 0 && from.hasEnded;
    if (to.isOver || !(nothingComes || to.isDestroyed)) return;
    // As TCP does it here: who hears the end, ends as well.
    to.isOver = true;
    to.inbox = [];
    to.inboxBytes = 0;
    to.hasEnded = true;
    deliverSoon(from, to);
    to.events.onEnd();
  };

  const stream = (own: End, other: End, remote: string): ByteStream => ({
    remote,
    get bufferedBytes() {
      return other.inboxBytes;
    },
    attach(events) {
      own.events = events;
      deliverSoon(own, other);
    },
    write(bytes) {
      if (own.hasEnded || other.isOver) return;
      other.inbox.push(bytes);
      other.inboxBytes += bytes.length;
      deliverSoon(other, own);
    },
    pause() {
      own.isPaused = true;
    },
    resume() {
      if (!own.isPaused) return;
      own.isPaused = false;
      deliverSoon(own, other);
    },
    end() {
      own.hasEnded = true;
      deliverSoon(other, own);
    },
    destroy() {
      own.hasEnded = own.isDestroyed = true;
      deliverSoon(own, other);
    },
  });
  return [stream(ends[0], ends[1], remotes[0]), stream(ends[1], ends[0], remotes[1])];
}

interface End {
  events: ByteStreamEvents | undefined;
  inbox: Uint8Array[];
  inboxBytes: number;
  isDue: boolean;
  isPaused: boolean;
  /** It writes no more. */
  hasEnded: boolean;
  /** It ends without waiting for what is in the inbox. */
  isDestroyed: boolean;
  /** It has been told the end. */
  isOver: boolean;
}

const newEnd = (): End => ({
  events: undefined,
  inbox: [],
  inboxBytes: 0,
  isDue: false,
  isPaused: false,
  hasEnded: false,
  isDestroyed: false,
  isOver: false,
});
