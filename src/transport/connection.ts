/**
 * The protocol above a byte stream, the same for TCP, WebSocket and memory: hello both ways, then messages, with
 * heartbeats, back-pressure and a reason at the end. docs/protocol.md, "Frames and handshake", describes it.
 *
 * Nothing here is Node's: a browser's client can speak through it too.
 */
import * as v from "valibot";
import { asFault, Fault, type FaultData, faultData, faults } from "../domain/fault.ts";
import type { Clock } from "../runtime/clock.ts";
import { decode, encode } from "./codec.ts";
import { frameHeaderBytes, frameReader, magic, writeFrameHeader } from "./frame.ts";
import type { AcceptOptions, Connection, DialOptions, Hello, Limits } from "./transport.ts";

/** Bytes both ways, in order. What the connection asks of TCP, of a WebSocket, of memory. */
export interface ByteStream {
  /** The other end, for people. */
  readonly remote: string;
  /** Bytes written and not yet taken by the system. */
  readonly bufferedBytes: number;
  /** Called once, before anything else; events come from then on, never inside this call. */
  attach(events: ByteStreamEvents): void;
  /** The bytes belong to the stream from now on. Does nothing after `end` or `destroy`. */
  write(bytes: Uint8Array): void;
  /** No more `onBytes`, but for the little that is already under way. */
  pause(): void;
  resume(): void;
  /** Sends what is queued, then ends our side. */
  end(): void;
  /** Ends both sides at once; what is queued may be lost. */
  destroy(): void;
}

export interface ByteStreamEvents {
  onBytes(chunk: Uint8Array): void;
  /** `bufferedBytes` has fallen. */
  onTaken(): void;
  /** Both sides have ended; nothing comes after this. With what broke it, if it did not end by itself. */
  onEnd(cause?: unknown): void;
}

/** What a connection needs of the world. */
export interface ConnectionPorts {
  readonly clock: Clock;
  /** Calls back soon, in the order of the calls, not at once: at the end of the turn, or when a simulation says so. */
  readonly later: (work: () => void) => void;
}

/** The first item of each payload. Hello and close never change their form, so that versions can refuse each other. */
const kinds = { message: 0, hello: 1, ping: 2, pong: 3, close: 4 } as const;
type Kind = (typeof kinds)[keyof typeof kinds];

export const limitsDefault: Required<Limits> = {
  frameBytesMax: 8 * 1024 * 1024,
  nestingMax: 32,
  heartbeatMs: 2000,
  silenceMs: 10_000,
  handshakeMs: 5000,
};
/** Of a payload that is not a message, and so of all that a stranger can make us hold. */
const controlBytesMax = 16 * 1024;
/** `drained` resolves at or below this. */
const drainedBytesMax = 256 * 1024;
/** A batch of this size is written without waiting for the end of the turn. */
const batchBytesMax = 256 * 1024;
/** A peer for whom so many frames of the greatest size wait does not read: it is given up, as one that is silent. */
const queuedFramesMax = 16;
/** How long a peer may take to read our last words. */
const lingerMs = 5000;
const reasonCharactersMax = 2000;

const printableId = v.pipe(v.string(), v.regex(/^[!-~]{1,200}$/));
const anyHello = v.looseObject({ protocol: v.literal("scoot-actors"), version: v.number() });
const helloOfOurVersion = v.object({
  protocol: v.literal("scoot-actors"),
  version: v.number(),
  role: v.picklist(["client", "worker", "gateway", "scheduler"]),
  memberId: printableId,
  incarnation: printableId,
  token: v.optional(v.pipe(v.string(), v.maxLength(1000))),
});
const closeReason = v.nullable(v.object({ code: v.string(), message: v.string() }));

/** What the two sides of a handshake do differently. */
interface Side {
  /** "accept a connection", "dial tcp://…": for faults. */
  readonly doing: string;
  readonly limits: Limits | undefined;
  readonly deadlineAtMs: number;
  /** Sent before anything is heard. */
  readonly opening?: Hello;
  /** Expected before the first frame. */
  readonly prefix?: Uint8Array;
  /** Judges the peer's hello, of which the form and the version are right. @throws {Fault} to refuse it. */
  judge(hello: Hello): void;
  /** Sent when the peer's hello is accepted. */
  readonly answer?: Hello;
  readonly version: number;
  onOpen(connection: Connection): void;
  /** Instead of `onOpen`. */
  onRefused(fault: Fault): void;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Shakes hands as the dialling side.
 *
 * @param deadlineAtMs for the handshake; the dial has begun earlier.
 * @throws {Fault} what the peer refused us with (`VERSION_MISMATCH`, `TOKEN_INVALID`, `REQUEST_INVALID`),
 *   `PEER_UNREACHABLE`, `FRAME_INVALID` or `FRAME_TOO_LONG` when it speaks another protocol, `CANCELLED` when aborted.
 */
export function dialOver(
  stream: ByteStream,
  address: string,
  options: DialOptions & { readonly deadlineAtMs: number },
  ports: ConnectionPorts,
): Promise<Connection> {
  return new Promise((resolve, reject) => {
    converse(stream, ports, {
      doing: `dial ${address}`,
      limits: options.limits,
      deadlineAtMs: options.deadlineAtMs,
      opening: options.hello,
      judge: () => {},
      version: options.hello.version,
      onOpen: resolve,
      onRefused: reject,
      signal: options.signal,
    });
  });
}

/** What accepting needs beside the options: how to compare tokens in constant time is the platform's affair. */
export interface AcceptPorts extends ConnectionPorts {
  readonly sameSecret: (given: string, expected: string) => boolean;
}

/** Shakes hands as the accepting side; a peer that is refused is told why, and nobody else. */
export function acceptOver(stream: ByteStream, options: AcceptOptions, ports: AcceptPorts): void {
  const { token: _, ...answer } = options.hello;
  converse(stream, ports, {
    doing: "accept this connection",
    limits: options.limits,
    deadlineAtMs: ports.clock.now() + (options.limits?.handshakeMs ?? limitsDefault.handshakeMs),
    prefix: magic,
    judge(hello) {
      if (
        options.token !== undefined &&
        (hello.token === undefined || !ports.sameSecret(hello.token, options.token))
      ) {
        throw new Fault(
          "TOKEN_INVALID",
          `Cannot accept this connection as its token must be the cluster's: current value is ${
            hello.token === undefined ? "absent" : "another"
          }`,
        );
      }
      if (!options.roles.includes(hello.role)) {
        throw new Fault(
          "REQUEST_INVALID",
          `Cannot accept this connection as its role must be ${
            options.roles.join(" or ")
          }: current value is ${hello.role}`,
        );
      }
    },
    answer,
    version: options.hello.version,
    onOpen: options.onConnection,
    onRefused: () => {},
  });
}

/** One conversation from its first byte to its last. */
function converse(stream: ByteStream, { clock, later }: ConnectionPorts, side: Side): void {
  const limits = { ...limitsDefault, ...side.limits };
  const reader = frameReader({
    payloadBytesMax: 1 + controlBytesMax,
    ...(side.prefix === undefined ? {} : { prefix: side.prefix }),
  });

  let state: "shaking" | "open" | "leaving" | "ended" = "shaking";
  /** What ended it; undefined while it has not, and after an ordinary close. */
  let ending: Fault | undefined;
  let streamEnded = false;

  // ---- outbound

  let batch: { readonly kind: Kind; readonly body: Uint8Array | undefined }[] = [];
  let batchBytes = 0;
  let flushIsDue = false;
  let hasSent = false;
  let drains: (() => void)[] = [];

  const bufferedBytes = (): number => batchBytes + stream.bufferedBytes;

  const flush = (): void => {
    flushIsDue = false;
    if (batch.length === 0 || state === "ended") return;
    const bytes = new Uint8Array(batchBytes);
    let at = 0;
    for (const { kind, body } of batch) {
      writeFrameHeader(bytes, at, 1 + (body?.length ?? 0));
      bytes[at + frameHeaderBytes] = kind;
      at += frameHeaderBytes + 1;
      if (body === undefined) continue;
      bytes.set(body, at);
      at += body.length;
    }
    batch = [];
    batchBytes = 0;
    stream.write(bytes);
    if (stream.bufferedBytes > queuedFramesMax * limits.frameBytesMax) {
      breakOff(
        new Fault(
          "PEER_SILENT",
          `Cannot send to ${stream.remote} as what waits for it must be at most ${
            queuedFramesMax * limits.frameBytesMax
          } bytes: current value is ${stream.bufferedBytes}. It does not read`,
        ),
      );
    }
  };

  const enqueue = (kind: Kind, body?: Uint8Array): void => {
    batch.push({ kind, body });
    batchBytes += frameHeaderBytes + 1 + (body?.length ?? 0);
    hasSent = true;
    if (batchBytes >= batchBytesMax) flush();
    else if (!flushIsDue) {
      flushIsDue = true;
      later(flush);
    }
  };

  const releaseDrains = (): void => {
    if (drains.length === 0 || (state === "open" && bufferedBytes() > drainedBytesMax)) return;
    const released = drains;
    drains = [];
    for (const resolve of released) resolve();
  };

  // ---- the end

  let resolveClosed: (why: Fault | undefined) => void;
  const closed = new Promise<Fault | undefined>((resolve) => resolveClosed = resolve);
  let cancelTimer = clock.at(side.deadlineAtMs, () =>
    breakOff(
      new Fault(
        "PEER_UNREACHABLE",
        `Cannot ${side.doing} as the handshake must be done within ${limits.handshakeMs} ms: it is not`,
      ),
    ));
  const onAbort = (): void =>
    breakOff(new Fault("CANCELLED", `Cannot ${side.doing}: it was cancelled`, { cause: side.signal?.reason }));

  /** Leaves the handshake or the open connection, once. */
  const settle = (why: Fault | undefined): boolean => {
    if (state !== "shaking" && state !== "open") return false;
    const wasShaking = state === "shaking";
    state = "leaving";
    ending = why;
    cancelTimer();
    side.signal?.removeEventListener("abort", onAbort);
    releaseDrains();
    if (wasShaking) {
      side.onRefused(why ?? new Fault("PEER_UNREACHABLE", `Cannot ${side.doing}: the peer closed before its hello`));
    }
    return true;
  };
  /** Ends politely: what is queued is sent, then `told` (null: an ordinary close; undefined: it knows), then ours ends. */
  const leave = (why: Fault | undefined, told: FaultData | null | undefined): void => {
    if (!settle(why)) return;
    if (told !== undefined) {
      const reason = told === null ? null : { ...told, message: told.message.slice(0, reasonCharactersMax) };
      enqueue(kinds.close, encode(reason));
    }
    flush();
    stream.end();
    // What the peer still says is read and thrown away: to end with bytes unread would take our last words from it.
    stream.resume();
    cancelTimer = clock.at(clock.now() + lingerMs, () => stream.destroy());
  };
  /** Ends at once, without a word. */
  const breakOff = (why: Fault): void => {
    if (settle(why)) stream.destroy();
  };
  const fail = (fault: Fault): void => leave(fault, faultData(fault));
  const end = (): void => {
    cancelTimer();
    state = "ended";
    batch = [];
    batchBytes = 0;
    resolveClosed(ending);
  };

  // ---- inbound

  let handler: ((message: unknown) => void | Promise<void>) | undefined;
  let handlerIsBusy = false;
  let isPumping = false;
  let isPaused = false;
  let hasHeard = false;

  const shake = (body: Uint8Array): void => {
    const said: unknown = decode(body);
    if (!v.is(anyHello, said)) {
      throw new Fault("FRAME_INVALID", `Cannot ${side.doing} as the peer must say hello as scoot-actors: it does not`);
    }
    if (said.version !== side.version) {
      throw new Fault(
        "VERSION_MISMATCH",
        `Cannot ${side.doing} as both must speak protocol version ${side.version}: current value is ${said.version}. ` +
          "Run the same release on both sides",
      );
    }
    const parsed = v.safeParse(helloOfOurVersion, said);
    if (!parsed.success) {
      throw new Fault("REQUEST_INVALID", `Cannot ${side.doing} as its hello is wrong: ${v.summarize(parsed.issues)}`);
    }
    const { token, ...peer } = parsed.output;
    side.judge(token === undefined ? peer : { ...peer, token });

    state = "open";
    cancelTimer();
    side.signal?.removeEventListener("abort", onAbort);
    if (side.answer !== undefined) enqueue(kinds.hello, encode(side.answer));
    reader.payloadBytesMax = 1 + Math.max(limits.frameBytesMax, controlBytesMax);
    beat();
    side.onOpen({
      peer,
      remote: stream.remote,
      get bufferedBytes() {
        return bufferedBytes();
      },
      send(message) {
        if (state !== "open") return;
        const body = encode(message, limits);
        if (body.length > limits.frameBytesMax) {
          throw new Fault(
            "FRAME_TOO_LONG",
            `Cannot send a message as its CBOR must be at most ${limits.frameBytesMax} bytes: current value is ` +
              `${body.length} bytes`,
          );
        }
        enqueue(kinds.message, body);
      },
      drained() {
        return new Promise((resolve) => {
          drains.push(resolve);
          releaseDrains();
        });
      },
      onMessage(given) {
        handler = given;
        pump();
      },
      closed,
      close(why) {
        leave(why, why === undefined ? null : faultData(why));
      },
    });
  };

  const hear = (frame: Uint8Array): void => {
    const kind = frame[0];
    const body = frame.subarray(1);
    if (kind !== kinds.message && body.length > controlBytesMax) {
      throw new Fault(
        "FRAME_TOO_LONG",
        `Cannot read a frame of kind ${kind} as it must be at most ${controlBytesMax} bytes: current value is ` +
          `${body.length}`,
      );
    }
    if (kind === kinds.close) return hearClose(body);
    if (state === "shaking") {
      if (kind === kinds.hello) return shake(body);
    } else if (kind === kinds.message) {
      return hearMessage(decode(body, limits));
    } else if (kind === kinds.ping) {
      // Whatever waits to be sent says as much as a pong.
      if (bufferedBytes() === 0) enqueue(kinds.pong);
      return;
    } else if (kind === kinds.pong) {
      return;
    }
    throw new Fault(
      "FRAME_INVALID",
      `Cannot ${state === "shaking" ? side.doing : "read a frame"} as its kind must be ${
        state === "shaking" ? "hello or close" : "message, ping, pong or close"
      }: current value is ${kind ?? "absent"}`,
    );
  };

  const hearClose = (body: Uint8Array): void => {
    const reason: unknown = decode(body);
    if (!v.is(closeReason, reason)) throw new Fault("FRAME_INVALID", "Cannot read the reason of a close");
    if (reason === null) return leave(undefined, undefined);
    // A code that this version does not know is still a failure.
    const code = Object.hasOwn(faults, reason.code) ? reason.code as keyof typeof faults : "INTERNAL";
    const message = reason.message.slice(0, reasonCharactersMax);
    leave(new Fault(code, state === "shaking" ? `${stream.remote} refused: ${message}` : message), undefined);
  };

  const hearMessage = (message: unknown): void => {
    const pending = handler?.(message);
    if (typeof pending?.then !== "function") return;
    handlerIsBusy = true;
    pending.then(() => {
      handlerIsBusy = false;
      pump();
    }, handlerFailed);
  };

  /** A fault is meant for the peer. Anything else is our own mistake, of which it learns only that. */
  const handlerFailed = (thrown: unknown): void => {
    const fault = asFault(thrown, "Cannot handle a message");
    leave(
      fault,
      thrown instanceof Fault
        ? faultData(fault)
        : { code: "INTERNAL", message: "Cannot handle a message: see the log" },
    );
  };

  /** Hears the frames that are there, one at a time, for as long as there is someone to hear them. */
  const pump = (): void => {
    if (isPumping) return;
    isPumping = true;
    while (state === "shaking" || (state === "open" && handler !== undefined && !handlerIsBusy)) {
      let frame: Uint8Array | undefined;
      try {
        frame = reader.next();
        if (frame !== undefined) hear(frame);
      } catch (thrown) {
        if (thrown instanceof Fault) fail(thrown);
        else handlerFailed(thrown);
      }
      if (frame !== undefined) continue;
      if (streamEnded) {
        settle(new Fault("PEER_UNREACHABLE", `${stream.remote} ended the connection without a goodbye`));
      } else if (isPaused) {
        isPaused = false;
        stream.resume();
      }
      break;
    }
    isPumping = false;
    if (streamEnded && state === "leaving") end();
  };

  /** Silence is counted in beats, not by the clock: a process that was stopped for a minute has not listened. */
  const beatMs = Math.min(limits.heartbeatMs, limits.silenceMs);
  let silentMs = 0;
  const beat = (): void => {
    silentMs = hasHeard || isPaused ? 0 : silentMs + beatMs;
    if (silentMs >= limits.silenceMs) {
      return breakOff(
        new Fault(
          "PEER_SILENT",
          `Cannot hear ${stream.remote} as something must come from it every ${limits.silenceMs} ms: nothing did`,
        ),
      );
    }
    if (!hasHeard || !hasSent) enqueue(kinds.ping);
    hasHeard = hasSent = false;
    cancelTimer = clock.at(clock.now() + beatMs, beat);
  };

  // ---- the beginning

  stream.attach({
    onBytes(chunk) {
      if (state !== "shaking" && state !== "open") return;
      hasHeard = true;
      reader.push(chunk);
      if (state === "open" && (handler === undefined || handlerIsBusy)) {
        isPaused = true;
        stream.pause();
      } else pump();
    },
    onTaken: releaseDrains,
    onEnd(cause) {
      streamEnded = true;
      if (cause !== undefined) {
        settle(new Fault("PEER_UNREACHABLE", `Cannot reach ${stream.remote}: ${describe(cause)}`, { cause }));
      }
      pump();
    },
  });
  if (side.signal?.aborted) return onAbort();
  side.signal?.addEventListener("abort", onAbort, { once: true });
  if (side.opening !== undefined) {
    stream.write(magic);
    enqueue(kinds.hello, encode(side.opening));
  }
}

/** The message, or the code where there is none: Node's error for several refused addresses has an empty message. */
const describe = (cause: unknown): string => {
  const { message, code } = cause as { readonly message?: string; readonly code?: string };
  return message || code || String(cause);
};
