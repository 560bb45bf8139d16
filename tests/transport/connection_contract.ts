import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Fault } from "../../src/domain/fault.ts";
import { decode, encode } from "../../src/transport/codec.ts";
import { frameHeaderBytes, frameReader, magic, writeFrameHeader } from "../../src/transport/frame.ts";
import type { AcceptOptions, Connection, DialOptions, Hello, Limits } from "../../src/transport/transport.ts";

/** A listener and the ways to it. */
export interface Meeting {
  readonly address: string;
  dial(address: string, options: DialOptions): Promise<Connection>;
  /** The bare byte stream to the listener, for those who speak wrongly. */
  dialRaw(address: string): Promise<RawPeer>;
  close(): Promise<void>;
}

export interface RawPeer {
  write(bytes: Uint8Array): void;
  onBytes(listener: (bytes: Uint8Array) => void): void;
  /** Resolves when the other side has ended the stream. */
  readonly ended: Promise<void>;
  end(): void;
}

export const hello = (role: Hello["role"], extra: Partial<Hello> = {}): Hello => ({
  protocol: "scoot-actors",
  version: 1,
  role,
  memberId: `${role}-1`,
  incarnation: "first",
  ...extra,
});

export const kinds = { message: 0, hello: 1, ping: 2, pong: 3, close: 4 } as const;

/** One frame, written by hand. */
export function frameOf(kind: number, body: Uint8Array = new Uint8Array(0)): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(frameHeaderBytes + 1 + body.length);
  writeFrameHeader(bytes, 0, 1 + body.length);
  bytes[frameHeaderBytes] = kind;
  bytes.set(body, frameHeaderBytes + 1);
  return bytes;
}

export const joined = (...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> =>
  new Uint8Array(Buffer.concat(parts));

/** The dialling side's first words, written by hand. */
export const opening = (said: Hello): Uint8Array<ArrayBuffer> => joined(magic, frameOf(kinds.hello, encode(said)));

interface Heard {
  readonly kind: number;
  readonly body: unknown;
}

/** What a raw peer hears, frame by frame. */
function listenTo(peer: RawPeer): { next(): Promise<Heard> } {
  const reader = frameReader({ payloadBytesMax: 2 ** 24 });
  const heard: Heard[] = [];
  let wake = (): void => {};
  peer.onBytes((bytes) => {
    reader.push(bytes);
    for (let frame = reader.next(); frame !== undefined; frame = reader.next()) {
      heard.push({ kind: frame[0] as number, body: frame.length > 1 ? decode(frame.subarray(1)) : undefined });
    }
    wake();
  });
  return {
    async next() {
      while (heard.length === 0) await new Promise<void>((resolve) => wake = resolve);
      return heard.shift() as Heard;
    },
  };
}

const quick: Limits = { heartbeatMs: 40, silenceMs: 160 };

/** A queue that tests can wait on. */
function queue<Item>(): { push(item: Item): void; next(): Promise<Item> } {
  const items: Item[] = [];
  const waiting: ((item: Item) => void)[] = [];
  return {
    push: (item) => (waiting.shift() ?? ((kept: Item) => items.push(kept)))(item),
    next: () => items.length > 0 ? Promise.resolve(items.shift() as Item) : new Promise((r) => waiting.push(r)),
  };
}

/** Every transport passes this. `meet` makes a fresh listener. */
export function connectionContract(name: string, meet: (options: AcceptOptions) => Promise<Meeting>): void {
  describe(name, () => {
    const accepted = queue<Connection>();
    const options: AcceptOptions = {
      hello: hello("scheduler", { token: "of the scheduler itself, never sent" }),
      token: "secret",
      roles: ["worker"],
      limits: { frameBytesMax: 8 * 1024 * 1024 },
      onConnection: (connection) => accepted.push(connection),
    };
    let meeting: Meeting;
    /** The same, with little patience. */
    let impatient: Meeting;
    beforeAll(async () => {
      meeting = await meet(options);
      impatient = await meet({ ...options, limits: { ...quick, handshakeMs: 500 } });
    });
    afterAll(async () => {
      await meeting.close();
      await impatient.close();
    });

    const worker = hello("worker", { token: "secret" });
    /** The two ends of one connection. */
    const connected = async (limits: Limits = {}): Promise<readonly [Connection, Connection]> => {
      const dialled = await meeting.dial(meeting.address, { hello: worker, limits });
      return [dialled, await accepted.next()];
    };
    const closeBoth = async (...connections: readonly Connection[]): Promise<void> => {
      for (const connection of connections) connection.close();
      await Promise.all(connections.map((connection) => connection.closed));
    };
    /** Two silences one after the other: both are over when a peer that says nothing has been given up twice. */
    const silences = async (): Promise<void> => {
      for (let n = 0; n < 2; n++) {
        const raw = await impatient.dialRaw(impatient.address);
        raw.write(opening(worker));
        const other = await accepted.next();
        other.onMessage(() => {});
        await other.closed;
        raw.end();
        await raw.ended;
      }
    };
    const refusal = (said: Hello): Promise<unknown> =>
      meeting.dial(meeting.address, { hello: said }).then(() => "accepted", (fault) => fault);

    test("each side learns who the other is, and nobody sees the token", async () => {
      const [dialled, other] = await connected();
      expect(dialled.peer).toEqual(hello("scheduler"));
      expect(other.peer).toEqual(hello("worker"));
      await closeBoth(dialled, other);
    });

    test("messages arrive in order and as they were, both ways", async () => {
      const [dialled, other] = await connected();
      other.onMessage((message) => other.send(message));
      const echoes = queue<unknown>();
      dialled.onMessage(echoes.push);
      const messages = [
        { type: "a", n: 1, nested: { list: [1, 2.5, -3, 2 ** 40, true, null, "ü€𝄞"] } },
        "text",
        [],
        {},
        null,
        new Uint8Array([1, 2, 3]),
        ...Array.from({ length: 100 }, (_, n) => ({ n })),
      ];
      for (const message of messages) dialled.send(message);
      for (const message of messages) expect(await echoes.next()).toEqual(message);
      await closeBoth(dialled, other);
    });

    test("undefined properties are left out", async () => {
      const [dialled, other] = await connected();
      const heard = queue<unknown>();
      other.onMessage(heard.push);
      dialled.send({ a: undefined, b: [undefined], c: { d: undefined } });
      expect(await heard.next()).toStrictEqual({ b: [null], c: {} });
      await closeBoth(dialled, other);
    });

    test("a message of almost the greatest size arrives whole", async () => {
      const [dialled, other] = await connected();
      const heard = queue<unknown>();
      other.onMessage(heard.push);
      const bytes = new Uint8Array(8 * 1024 * 1024 - 100).map((_, index) => index % 251);
      dialled.send({ bytes });
      const { bytes: arrived } = await heard.next() as { bytes: Uint8Array };
      expect(Buffer.compare(arrived, bytes)).toBe(0);
      expect(arrived.constructor).toBe(Uint8Array);
      await closeBoth(dialled, other);
    });

    test("send() refuses a message that is too long for the peer, or no plain data, and the connection lives on", async () => {
      const [dialled, other] = await connected({ frameBytesMax: 1000 });
      const heard = queue<unknown>();
      other.onMessage(heard.push);
      expect(() => dialled.send("x".repeat(1001))).toThrow(expect.objectContaining({ code: "FRAME_TOO_LONG" }));
      expect(() => dialled.send({ when: new Date(0) })).toThrow(expect.objectContaining({ code: "FRAME_INVALID" }));
      dialled.send("fits");
      expect(await heard.next()).toBe("fits");
      await closeBoth(dialled, other);
    });

    test("10,000 messages of one turn arrive in order", async () => {
      const [dialled, other] = await connected();
      let next = 0;
      let wrong = 0;
      const all = new Promise<void>((resolve) =>
        other.onMessage((message) => {
          if ((message as { n: number }).n !== next) wrong++;
          if (++next === 10_000) resolve();
        })
      );
      for (let n = 0; n < 10_000; n++) dialled.send({ type: "task.exited", taskId: "j01k3x9q7f-4m2d/0", n });
      await all;
      expect(wrong).toBe(0);
      await closeBoth(dialled, other);
    });

    test("while a handler's promise is pending nothing more is handled", async () => {
      const [dialled, other] = await connected();
      const began = queue<unknown>();
      let release = (): void => {};
      other.onMessage((message) => {
        began.push(message);
        return new Promise<void>((resolve) => release = resolve);
      });
      const echoes = queue<unknown>();
      dialled.onMessage(echoes.push);
      dialled.send(1);
      dialled.send(2);
      expect(await began.next()).toBe(1);
      let second = false;
      const next = began.next().then((message) => {
        second = true;
        return message;
      });
      other.send("a round trip");
      await echoes.next();
      expect(second).toBe(false);
      release();
      expect(await next).toBe(2);
      release();
      await closeBoth(dialled, other);
    });

    test("200 MB through a slow reader wait at the sender, in bounded memory", async () => {
      const [dialled, other] = await connected();
      const message = new Uint8Array(1_000_000);
      let arrivedBytes = 0;
      let bufferedBytesMost = 0;
      const all = new Promise<void>((resolve) =>
        other.onMessage(async (message) => {
          arrivedBytes += (message as Uint8Array).length;
          // Slow: it comes back only after the sender could have run ahead.
          for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
          if (arrivedBytes === 200_000_000) resolve();
        })
      );
      for (let sent = 0; sent < 200; sent++) {
        dialled.send(message);
        bufferedBytesMost = Math.max(bufferedBytesMost, dialled.bufferedBytes);
        await dialled.drained();
        expect(dialled.bufferedBytes).toBeLessThanOrEqual(256 * 1024);
      }
      await all;
      expect(bufferedBytesMost).toBeLessThan(2_000_000);
      await closeBoth(dialled, other);
    }, 60_000);

    test("a sender sees that its peer does not read, and drained() waits for it", async () => {
      const [dialled, other] = await connected();
      let release = (): void => {};
      other.onMessage(() => new Promise<void>((resolve) => release = resolve));
      const message = new Uint8Array(1_000_000);
      for (let sent = 0; sent < 32; sent++) dialled.send(message);
      let drained = false;
      const drains = dialled.drained().then(() => drained = true);
      // Some megabytes may hide in the system's buffers, but not all of them.
      for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve));
      expect(drained).toBe(false);
      expect(dialled.bufferedBytes).toBeGreaterThan(256 * 1024);
      other.onMessage(() => {});
      release();
      await drains;
      expect(dialled.bufferedBytes).toBeLessThanOrEqual(256 * 1024);
      await closeBoth(dialled, other);
    });

    test("a peer for whom too much waits is given up", async () => {
      const [dialled, other] = await connected({ frameBytesMax: 1_000_000 });
      other.onMessage(() => new Promise(() => {}));
      const message = new Uint8Array(900_000);
      for (let sent = 0; sent < 200; sent++) dialled.send(message);
      expect(await dialled.closed).toMatchObject({ code: "PEER_SILENT" });
      dialled.send("does nothing");
      other.close();
      await other.closed;
    });

    test("a handler that is busy for longer than the silence does not look like a dead peer", async () => {
      const dialled = await impatient.dial(impatient.address, { hello: worker, limits: quick });
      const other = await accepted.next();
      const first = queue<unknown>();
      let release = (): void => {};
      other.onMessage((message) => {
        first.push(message);
        return new Promise<void>((resolve) => release = resolve);
      });
      // So much that the accepting side really stops reading.
      for (let n = 0; n < 40; n++) dialled.send(new Uint8Array(100_000));
      await first.next();
      await silences();
      let ended: unknown = "not ended";
      void Promise.race([dialled.closed, other.closed]).then((why) => ended = why);
      const echoes = queue<unknown>();
      dialled.onMessage(echoes.push);
      other.send("still here");
      expect(await echoes.next()).toBe("still here");
      expect(ended).toBe("not ended");
      other.onMessage(() => {});
      release();
      await closeBoth(dialled, other);
    });

    test("two idle peers keep each other company", async () => {
      const dialled = await impatient.dial(impatient.address, { hello: worker, limits: quick });
      const other = await accepted.next();
      dialled.onMessage(() => {});
      const heard = queue<unknown>();
      other.onMessage(heard.push);
      await silences();
      dialled.send("still here");
      expect(await heard.next()).toBe("still here");
      await closeBoth(dialled, other);
    });

    test("a peer that falls silent is given up with PEER_SILENT", async () => {
      const raw = await impatient.dialRaw(impatient.address);
      raw.write(opening(worker));
      const other = await accepted.next();
      other.onMessage(() => {});
      expect(await other.closed).toMatchObject({ code: "PEER_SILENT" });
      raw.end();
      await raw.ended;
    });

    test("a ping is answered with a pong", async () => {
      const raw = await meeting.dialRaw(meeting.address);
      const ear = listenTo(raw);
      raw.write(opening(worker));
      (await accepted.next()).onMessage(() => {});
      expect(await ear.next()).toEqual({ kind: kinds.hello, body: hello("scheduler") });
      raw.write(frameOf(kinds.ping));
      expect(await ear.next()).toEqual({ kind: kinds.pong, body: undefined });
      raw.end();
      await raw.ended;
    });

    test("an ordinary close ends both sides without a fault, after what was sent before", async () => {
      const [dialled, other] = await connected();
      const heard: unknown[] = [];
      other.onMessage((message) => void heard.push(message));
      for (let n = 0; n < 100; n++) dialled.send(n);
      dialled.close();
      dialled.send("too late");
      expect(await dialled.closed).toBeUndefined();
      expect(await other.closed).toBeUndefined();
      expect(heard).toEqual(Array.from({ length: 100 }, (_, n) => n));
      await dialled.drained();
    });

    test("what came before a close is handled one by one, however slowly", async () => {
      const [dialled, other] = await connected();
      const heard: unknown[] = [];
      other.onMessage(async (message) => {
        await new Promise((resolve) => setImmediate(resolve));
        heard.push(message);
      });
      for (let n = 0; n < 20; n++) dialled.send(n);
      dialled.close();
      expect(await other.closed).toBeUndefined();
      expect(heard).toHaveLength(20);
    });

    test("a close with a reason tells it to the peer", async () => {
      const [dialled, other] = await connected();
      dialled.onMessage(() => {});
      other.close(new Fault("DRAINING", "Cannot keep this worker: the scheduler is going down"));
      expect(await dialled.closed).toMatchObject({ code: "DRAINING", message: expect.stringContaining("going down") });
      expect(await other.closed).toMatchObject({ code: "DRAINING" });
    });

    test("a fault that a handler throws is told to the peer, and ends the connection", async () => {
      const [dialled, other] = await connected();
      dialled.onMessage(() => {});
      other.onMessage(() => {
        throw new Fault("REQUEST_INVALID", "Cannot read task.exited as attempt must be positive: current value is 0");
      });
      dialled.send("nonsense");
      expect(await dialled.closed).toMatchObject({
        code: "REQUEST_INVALID",
        message: expect.stringContaining("attempt"),
      });
      expect(await other.closed).toMatchObject({ code: "REQUEST_INVALID" });
    });

    test("any other error of a handler ends the connection without telling the peer what it was", async () => {
      const [dialled, other] = await connected();
      dialled.onMessage(() => {});
      other.onMessage(() => Promise.reject(new TypeError("password is hunter2")));
      dialled.send(1);
      expect(await dialled.closed).toMatchObject({ code: "INTERNAL", message: expect.not.stringContaining("hunter2") });
      expect(await other.closed).toMatchObject({ code: "INTERNAL", message: expect.stringContaining("hunter2") });
    });

    test("a stream that ends without a goodbye is PEER_UNREACHABLE", async () => {
      const raw = await meeting.dialRaw(meeting.address);
      raw.write(opening(worker));
      const other = await accepted.next();
      const heard = queue<unknown>();
      other.onMessage(heard.push);
      raw.write(frameOf(kinds.message, encode("last words")));
      raw.end();
      expect(await heard.next()).toBe("last words");
      expect(await other.closed).toMatchObject({ code: "PEER_UNREACHABLE" });
      await raw.ended;
    });

    test("another protocol version is refused readably, before anything else of the hello is judged", async () => {
      expect(await refusal({ ...worker, version: 2, role: "astronaut" as "worker", token: "wrong" })).toMatchObject({
        code: "VERSION_MISMATCH",
        message: expect.stringMatching(/must speak protocol version 1: current value is 2/),
      });
    });

    test("a wrong and a missing token are refused", async () => {
      for (const said of [{ ...worker, token: "Secret" }, hello("worker")]) {
        const fault = await refusal(said);
        expect(fault).toMatchObject({ code: "TOKEN_INVALID" });
        expect((fault as Fault).message).not.toContain("ecret");
      }
    });

    test("a role that may not dial is refused with the roles that may", async () => {
      expect(await refusal({ ...worker, role: "client" })).toMatchObject({
        code: "REQUEST_INVALID",
        message: expect.stringContaining("must be worker: current value is client"),
      });
    });

    test("names that are not short printable ASCII are refused", async () => {
      expect(await refusal({ ...worker, memberId: "line\nbreak" })).toMatchObject({ code: "REQUEST_INVALID" });
      expect(await refusal({ ...worker, incarnation: "x".repeat(201) })).toMatchObject({ code: "REQUEST_INVALID" });
    });

    test("who says nothing is hung up on after the time for the handshake", async () => {
      const raw = await impatient.dialRaw(impatient.address);
      await raw.ended;
      raw.end();
    });

    const nested = (depth: number): Uint8Array => joined(new Uint8Array(depth).fill(0x81), new Uint8Array([0]));
    const wrongs: readonly (readonly [string, Uint8Array, string])[] = [
      ["bytes that do not begin with the magic", new TextEncoder().encode("GET / HTTP/1.1\r\n\r\n"), "FRAME_INVALID"],
      ["a first frame that is no hello", joined(magic, frameOf(kinds.ping)), "FRAME_INVALID"],
      ["a message before the hello", joined(magic, frameOf(kinds.message, encode(1))), "FRAME_INVALID"],
      ["a hello of another protocol", joined(magic, frameOf(kinds.hello, encode({ a: 1 }))), "FRAME_INVALID"],
      ["a length of 20,000 before the hello", joined(magic, new Uint8Array([0, 0, 0x4e, 0x20])), "FRAME_TOO_LONG"],
      ["an empty frame", joined(opening(worker), new Uint8Array(4)), "FRAME_INVALID"],
      ["an unknown kind", joined(opening(worker), frameOf(9)), "FRAME_INVALID"],
      ["a second hello", joined(opening(worker), frameOf(kinds.hello, encode(worker))), "FRAME_INVALID"],
      ["a length of 4 GB", joined(opening(worker), new Uint8Array([255, 255, 255, 255, 0])), "FRAME_TOO_LONG"],
      ["a long close", joined(opening(worker), frameOf(kinds.close, encode("x".repeat(20_000)))), "FRAME_TOO_LONG"],
      ["a message 33 deep", joined(opening(worker), frameOf(kinds.message, nested(33))), "FRAME_INVALID"],
      ["a million brackets", joined(opening(worker), frameOf(kinds.message, nested(1_000_000))), "FRAME_INVALID"],
      [
        "a class tag",
        joined(opening(worker), frameOf(kinds.message, new Uint8Array([0xd8, 27, 0x82, 0x61, 65, 1]))),
        "FRAME_INVALID",
      ],
      ["a cut message", joined(opening(worker), frameOf(kinds.message, new Uint8Array([0x82, 1]))), "FRAME_INVALID"],
      ["two messages in one", joined(opening(worker), frameOf(kinds.message, new Uint8Array([1, 1]))), "FRAME_INVALID"],
      ["a close without a reason", joined(opening(worker), frameOf(kinds.close, encode(7))), "FRAME_INVALID"],
    ];
    for (const [what, bytes, code] of wrongs) {
      test(`${what}: the peer is told ${code} and hung up on`, async () => {
        const raw = await meeting.dialRaw(meeting.address);
        const ear = listenTo(raw);
        raw.write(bytes);
        const isRefusedLate = Buffer.compare(bytes.subarray(0, opening(worker).length), opening(worker)) === 0;
        if (isRefusedLate) {
          const other = await accepted.next();
          other.onMessage(() => {});
          expect((await ear.next()).kind).toBe(kinds.hello);
          expect(await other.closed).toMatchObject({ code });
        }
        expect(await ear.next()).toMatchObject({ kind: kinds.close, body: { code, message: expect.any(String) } });
        await raw.ended;
        raw.end();
      });
    }

    test("one byte at a time is slow and right", async () => {
      const raw = await meeting.dialRaw(meeting.address);
      for (const byte of joined(opening(worker), frameOf(kinds.message, encode({ a: "b" })))) {
        raw.write(Uint8Array.of(byte));
      }
      const other = await accepted.next();
      const heard = queue<unknown>();
      other.onMessage(heard.push);
      expect(await heard.next()).toEqual({ a: "b" });
      raw.end();
      await Promise.all([other.closed, raw.ended]);
    });

    test("a dial that is aborted rejects with CANCELLED", async () => {
      const before = new AbortController();
      before.abort();
      await expect(meeting.dial(meeting.address, { hello: worker, signal: before.signal })).rejects.toMatchObject({
        code: "CANCELLED",
      });
      const during = new AbortController();
      const dial = meeting.dial(meeting.address, { hello: worker, signal: during.signal });
      during.abort();
      await expect(dial).rejects.toMatchObject({ code: "CANCELLED" });
    });

    test("a signal that is aborted after the dial changes nothing", async () => {
      const later = new AbortController();
      const dialled = await meeting.dial(meeting.address, { hello: worker, signal: later.signal });
      const other = await accepted.next();
      const heard = queue<unknown>();
      other.onMessage(heard.push);
      later.abort();
      dialled.send("unharmed");
      expect(await heard.next()).toBe("unharmed");
      await closeBoth(dialled, other);
    });

    test("a closed listener refuses, and its open connections stay", async () => {
      const short = await meet(options);
      const dialled = await short.dial(short.address, { hello: worker });
      const other = await accepted.next();
      await short.close();
      await expect(short.dial(short.address, { hello: worker })).rejects.toMatchObject({ code: "PEER_UNREACHABLE" });
      const heard = queue<unknown>();
      other.onMessage(heard.push);
      dialled.send("unharmed");
      expect(await heard.next()).toBe("unharmed");
      await closeBoth(dialled, other);
    });
  });
}
