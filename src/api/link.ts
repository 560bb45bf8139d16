import { asFault, Fault } from "../domain/fault.ts";
import type { Answer, Push } from "../protocol/client_messages.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Connection } from "../transport/transport.ts";

/**
 * Requests and subscriptions over a connection that comes and goes: between a client and its gateway, and between a
 * gateway and its scheduler.
 *
 * A request that has no answer when the connection ends is asked again on the next one: all requests can be asked twice.
 * A subscription is begun again from where it stands. Both wait without a connection for `waitMs`, then they fail with
 * `PEER_UNREACHABLE`. What the peer says that cannot be read or heard fails what it is about, and the others go on: a
 * new connection would only hear it again.
 */
export interface Link<Request> {
  /** The newest connection is spoken on. Call in the turn in which it was handed over. */
  attach(connection: Connection): void;
  /** @throws {Fault} what the peer answered with, `PEER_UNREACHABLE`, `CANCELLED` after {@link Link.close}. */
  ask(request: Request): Promise<Answer>;
  subscribe(subscription: Subscription<Request>): Subscribed;
  readonly isConnected: boolean;
  /** Fails all that waits: the peer cannot be reached for a reason that waiting does not cure. */
  fail(why: Fault): void;
  /** Fails all that waits, and all that comes, with `CANCELLED`. */
  close(): void;
}

/** Pushes from the peer, numbered by us. Each beginning has a new number, so that late pushes of an old one are told apart. */
export interface Subscription<Request> {
  /** From where it stands. */
  readonly begin: (id: number) => Request;
  readonly stop: (id: number) => Request;
  /** @returns "over" when nothing comes after this, as the peer knows too. */
  readonly hear: (push: Push) => "over" | void;
  /** The peer has answered: what it had to say at once was heard. */
  readonly begun?: (answer: Answer) => void;
  /** It is over: refused, or unreachable for too long. */
  readonly failed: (why: Fault) => void;
}

export interface Subscribed {
  /** Stops the pushes for now; {@link Subscribed.resume} begins again. */
  pause(): void;
  resume(): void;
  /** Nothing more is heard. */
  close(): void;
}

export interface LinkOptions {
  readonly clock: Clock;
  readonly parse: (input: unknown) => { readonly re?: number; readonly body: Answer | Push };
  /** For faults: "the scheduler". */
  readonly peer: string;
  /** For faults: what one does about a peer that is away, as a sentence. */
  readonly advice: string;
  readonly waitMs: number;
  /** Requests and subscriptions that were never answered, at most; more are refused with `PEER_UNREACHABLE`. */
  readonly requestsMax: number;
}

interface Pending<Request> {
  readonly request: Request;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (why: Fault) => void;
  cancelTimer: () => void;
}

interface Running<Request> {
  readonly subscription: Subscription<Request>;
  id: number | undefined;
  isPaused: boolean;
  /** Whether the peer has ever answered it. */
  isKnown: boolean;
  cancelTimer: () => void;
}

const isPush = (body: Answer | Push): body is Push =>
  body.type === "job.changed" || body.type === "task.changed" || body.type === "watch.end" ||
  body.type === "tree.wanted" || body.type === "output.chunk" || body.type === "output.end";

export function createLink<Request>(options: LinkOptions): Link<Request> {
  const { clock, peer, waitMs } = options;
  const pending = new Map<number, Pending<Request>>();
  /** By the number of the request that begins it, while that has no answer. */
  const beginning = new Map<number, Running<Request>>();
  const byId = new Map<number, Running<Request>>();
  const running = new Set<Running<Request>>();
  let connection: Connection | undefined;
  let requests = 0;
  let subscriptions = 0;
  /** Of {@link Running.isKnown}. */
  let unknown = 0;
  let isClosed = false;

  const away = (): Fault =>
    new Fault("PEER_UNREACHABLE", `Cannot reach ${peer}: it was away for ${waitMs / 1_000} s. ${options.advice}`);
  const tooMany = (): Fault =>
    new Fault(
      "PEER_UNREACHABLE",
      `Cannot ask ${peer} as at most ${options.requestsMax} requests may wait for it: so many do`,
    );
  const closed = (): Fault => new Fault("CANCELLED", `Cannot ask ${peer}: this side has closed`);

  const send = (id: number, request: Request): void => connection?.send({ id, sentAtMs: clock.now(), body: request });
  const giveUp = (id: number, why: Fault): void => {
    const waiting = pending.get(id);
    if (waiting === undefined) return;
    pending.delete(id);
    waiting.cancelTimer();
    waiting.reject(why);
  };
  const wait = (fail: (why: Fault) => void): () => void => clock.at(clock.now() + waitMs, () => fail(away()));

  const begin = (one: Running<Request>): void => {
    if (one.isPaused || one.id !== undefined || connection === undefined) return;
    one.cancelTimer();
    const id = ++subscriptions;
    const request = ++requests;
    one.id = id;
    byId.set(id, one);
    beginning.set(request, one);
    try {
      send(request, one.subscription.begin(id));
    } catch (thrown) {
      beginning.delete(request);
      failRunning(one, asFault(thrown)); // too long for a frame
    }
  };
  const stop = (one: Running<Request>): void => {
    if (one.id === undefined) return;
    byId.delete(one.id);
    send(++requests, one.subscription.stop(one.id)); // whose answer nobody waits for
    one.id = undefined;
  };
  const drop = (one: Running<Request>): boolean => {
    one.cancelTimer();
    if (one.id !== undefined) byId.delete(one.id);
    one.id = undefined;
    know(one);
    return running.delete(one);
  };
  const know = (one: Running<Request>): void => {
    if (!one.isKnown) unknown--;
    one.isKnown = true;
  };
  const failRunning = (one: Running<Request>, why: Fault): void => {
    if (drop(one)) one.subscription.failed(why);
  };

  const sendOrGiveUp = (id: number, request: Request): void => {
    try {
      send(id, request);
    } catch (thrown) {
      giveUp(id, asFault(thrown)); // too long for a frame
    }
  };
  /** @throws {unknown} the same, when nothing is known of what it is about. */
  const failHeard = (input: unknown, thrown: unknown): void => {
    const { re, body } = input as { readonly re?: unknown; readonly body?: Record<string, unknown> };
    const one = typeof re === "number" ? beginning.get(re) : byId.get((body?.["watch"] ?? body?.["follow"]) as number);
    const why = asFault(thrown, `Cannot read what ${peer} says`);
    if (typeof re === "number" && pending.has(re)) return giveUp(re, why);
    if (one === undefined) throw thrown;
    if (typeof re === "number") beginning.delete(re);
    stop(one);
    failRunning(one, why);
  };
  const hear = (input: unknown): void => {
    try {
      hearParsed(options.parse(input));
    } catch (thrown) {
      failHeard(input, thrown);
    }
  };
  const hearParsed = ({ re, body }: ReturnType<LinkOptions["parse"]>): void => {
    if (isPush(body)) {
      const one = byId.get("watch" in body ? body.watch : body.follow);
      if (one === undefined) return;
      if (body.type === "watch.end" || body.type === "output.end") drop(one);
      if (one.subscription.hear(body) === "over") drop(one);
      return;
    }
    if (re === undefined) return;
    const begun = beginning.get(re);
    if (begun !== undefined) {
      beginning.delete(re);
      if (body.type === "fault") failRunning(begun, new Fault(body.fault.code, body.fault.message));
      else {
        know(begun);
        begun.subscription.begun?.(body);
      }
      return;
    }
    const waiting = pending.get(re);
    if (waiting === undefined) return;
    pending.delete(re);
    waiting.cancelTimer();
    if (body.type === "fault") waiting.reject(new Fault(body.fault.code, body.fault.message));
    else waiting.resolve(body);
  };

  const lose = (): void => {
    connection = undefined;
    beginning.clear();
    byId.clear();
    for (const [id, waiting] of pending) waiting.cancelTimer = wait((why) => giveUp(id, why));
    for (const one of running) {
      one.id = undefined;
      if (!one.isPaused) one.cancelTimer = wait((why) => failRunning(one, why));
    }
  };
  const failAll = (why: Fault): void => {
    for (const id of [...pending.keys()]) giveUp(id, why);
    for (const one of [...running]) failRunning(one, why);
  };

  return {
    attach(next) {
      if (isClosed) return next.close();
      if (connection !== undefined) {
        const old = connection;
        lose();
        old.close();
      }
      connection = next;
      next.onMessage(hear);
      void next.closed.then((why) => {
        if (connection !== next) return;
        lose();
        // What the peer does not understand it will not understand the next time.
        if (why?.meaning.retry === "never") failAll(why);
      });
      for (const [id, waiting] of pending) {
        waiting.cancelTimer();
        sendOrGiveUp(id, waiting.request);
      }
      for (const one of running) begin(one);
    },
    ask(request) {
      if (isClosed) return Promise.reject(closed());
      if (pending.size + unknown >= options.requestsMax) return Promise.reject(tooMany());
      return new Promise((resolve, reject) => {
        const id = ++requests;
        pending.set(id, {
          request,
          resolve,
          reject,
          cancelTimer: connection === undefined ? wait((why) => giveUp(id, why)) : () => {},
        });
        sendOrGiveUp(id, request);
      });
    },
    subscribe(subscription) {
      const one: Running<Request> = {
        subscription,
        id: undefined,
        isPaused: false,
        isKnown: false,
        cancelTimer: () => {},
      };
      const isTooMany = pending.size + unknown >= options.requestsMax;
      running.add(one);
      unknown++;
      if (isClosed || isTooMany) queueMicrotask(() => failRunning(one, isClosed ? closed() : tooMany()));
      else if (connection === undefined) one.cancelTimer = wait((why) => failRunning(one, why));
      else begin(one);
      return {
        pause() {
          if (one.isPaused) return;
          one.isPaused = true;
          one.cancelTimer();
          stop(one);
        },
        resume() {
          if (!one.isPaused || !running.has(one)) return;
          one.isPaused = false;
          if (connection === undefined) one.cancelTimer = wait((why) => failRunning(one, why));
          else begin(one);
        },
        close() {
          stop(one);
          drop(one);
        },
      };
    },
    get isConnected() {
      return connection !== undefined;
    },
    fail: failAll,
    close() {
      if (isClosed) return;
      isClosed = true;
      failAll(closed());
      connection?.close();
    },
  };
}
