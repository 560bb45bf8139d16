import type { Fault } from "../domain/fault.ts";

/** What each side says of itself before anything else. */
export interface Hello {
  readonly protocol: "scoot-actors";
  /** Of the protocol (protocol/version.ts). Both sides must speak the same. */
  readonly version: number;
  readonly role: "client" | "worker" | "gateway" | "scheduler";
  /** A name of the process, stable over its restarts. */
  readonly memberId: string;
  /** New at each start of the process. */
  readonly incarnation: string;
  /** Sent by the dialling side; the accepting side compares it in constant time. Never sent back. */
  readonly token?: string;
}

/**
 * A wire to one peer whose hello was accepted. Messages are plain data (codec.ts); the schema is the receiver's affair.
 * They arrive in the order in which they were sent, each at most once; those under way when it breaks may be lost.
 */
export interface Connection {
  /** Without its token. */
  readonly peer: Hello;
  /** "127.0.0.1:41234", "memory:3"; for people. */
  readonly remote: string;
  /**
   * Queues a message; those of one turn of the event loop leave in one write (or one for each 256 KiB). Does nothing
   * once closed. Who sends much awaits `drained`: a peer for whom more than 16 times `frameBytesMax` waits is given up
   * with PEER_SILENT.
   *
   * @throws {Fault} `FRAME_TOO_LONG` above `frameBytesMax`, `FRAME_INVALID` for what is not plain data; the connection
   *   stays as it was.
   */
  send(message: unknown): void;
  /** Bytes queued and not yet taken by the system. */
  readonly bufferedBytes: number;
  /** Resolves when `bufferedBytes` is at most 256 KiB, or the connection is closed. */
  drained(): Promise<void>;
  /**
   * Must be set in the turn in which the connection is handed over: until then nothing is heard, not even a goodbye.
   * While a returned promise is pending nothing more is read from the peer: that is the back-pressure. A Fault thrown
   * (or rejected with) is told to the peer, and closes; of another error the peer learns only INTERNAL. A handler must
   * not wait for a later message of the same connection.
   */
  onMessage(handler: (message: unknown) => void | Promise<void>): void;
  /**
   * Resolves once, when the byte stream has ended, with what ended it; undefined after an ordinary close by either side.
   * What the peer had sent before its goodbye has been handled by then.
   */
  readonly closed: Promise<Fault | undefined>;
  /** Sends what is queued, tells the peer why if a fault is given, and ends, after 5 s even if the peer does not read. */
  close(why?: Fault): void;
}

export interface Limits {
  /** Of one message in bytes of CBOR; 8 MiB by default. */
  readonly frameBytesMax?: number;
  /** Arrays and maps inside each other; 32 by default. */
  readonly nestingMax?: number;
  /** A ping is sent after so long without traffic; 2,000 ms by default. */
  readonly heartbeatMs?: number;
  /**
   * After so long without a byte from the peer (and at most `heartbeatMs` more) the connection closes with PEER_SILENT;
   * 10,000 ms by default. Counted only while we listen.
   */
  readonly silenceMs?: number;
  /** For the dial and the handshake together; 5,000 ms by default. */
  readonly handshakeMs?: number;
}

export interface Listener {
  /** What a peer dials: "tcp://127.0.0.1:41234", "ws://…", "memory:name". */
  readonly address: string;
  /** Stops accepting; open connections stay. */
  close(): Promise<void>;
}

export interface AcceptOptions {
  readonly hello: Hello;
  /** Compared with the dialling side's; undefined: none is asked for (memory transport, tests). */
  readonly token?: string;
  /** Roles that may dial this listener. */
  readonly roles: readonly Hello["role"][];
  readonly limits?: Limits;
  readonly onConnection: (connection: Connection) => void;
}

export interface DialOptions {
  readonly hello: Hello;
  readonly limits?: Limits;
  readonly signal?: AbortSignal;
}
