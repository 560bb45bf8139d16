/**
 * Every failure that we expect. One class, one code, one row in the table; the doors translate by the table alone.
 *
 * A message reads "Cannot X as Y must be Z: current value is V", and says what to do where that is not plain.
 */

/** What the one who asked may conclude from a fault. */
export interface FaultMeaning {
  /** `never`: the same request fails again. `later`: it may succeed unchanged. */
  readonly retry: "never" | "later";
  /** Name of the gRPC status code (google.rpc.Code). */
  readonly grpc: string;
  /** HTTP status code (RFC 9110). */
  readonly http: number;
}

export const faults = {
  // What was asked is wrong.
  REQUEST_INVALID: { retry: "never", grpc: "INVALID_ARGUMENT", http: 400 },
  USAGE_INVALID: { retry: "never", grpc: "INVALID_ARGUMENT", http: 400 },
  JOB_INVALID: { retry: "never", grpc: "INVALID_ARGUMENT", http: 400 },
  DIGEST_INVALID: { retry: "never", grpc: "INVALID_ARGUMENT", http: 400 },
  PATH_INVALID: { retry: "never", grpc: "INVALID_ARGUMENT", http: 400 },
  NAME_NOT_UTF8: { retry: "never", grpc: "INVALID_ARGUMENT", http: 400 },
  TREE_INVALID: { retry: "never", grpc: "INVALID_ARGUMENT", http: 400 },
  RANGE_INVALID: { retry: "never", grpc: "OUT_OF_RANGE", http: 416 },
  // What was asked for is not there.
  ACTOR_UNKNOWN: { retry: "never", grpc: "NOT_FOUND", http: 404 },
  ACTION_UNKNOWN: { retry: "never", grpc: "NOT_FOUND", http: 404 },
  JOB_UNKNOWN: { retry: "never", grpc: "NOT_FOUND", http: 404 },
  TASK_UNKNOWN: { retry: "never", grpc: "NOT_FOUND", http: 404 },
  WORKER_UNKNOWN: { retry: "never", grpc: "NOT_FOUND", http: 404 },
  ROUTE_UNKNOWN: { retry: "never", grpc: "UNIMPLEMENTED", http: 404 },
  REF_UNKNOWN: { retry: "never", grpc: "NOT_FOUND", http: 404 },
  BLOB_MISSING: { retry: "never", grpc: "NOT_FOUND", http: 404 },
  ASSET_UNKNOWN: { retry: "never", grpc: "NOT_FOUND", http: 404 },
  SNAPSHOT_UNKNOWN: { retry: "never", grpc: "NOT_FOUND", http: 404 },
  PATH_UNKNOWN: { retry: "never", grpc: "NOT_FOUND", http: 404 },
  OUTPUT_MISSING: { retry: "never", grpc: "FAILED_PRECONDITION", http: 409 },
  // What was asked contradicts what is.
  REF_CONFLICT: { retry: "later", grpc: "ABORTED", http: 409 },
  ASSET_CHANGED: { retry: "never", grpc: "FAILED_PRECONDITION", http: 409 },
  OUTPUT_INVALID: { retry: "never", grpc: "FAILED_PRECONDITION", http: 409 },
  OUTPUT_CHANGED: { retry: "never", grpc: "FAILED_PRECONDITION", http: 409 },
  STORE_LOCKED: { retry: "later", grpc: "UNAVAILABLE", http: 503 },
  STORE_NEWER: { retry: "never", grpc: "FAILED_PRECONDITION", http: 500 },
  STORE_CORRUPT: { retry: "never", grpc: "DATA_LOSS", http: 500 },
  BLOB_CORRUPT: { retry: "never", grpc: "INVALID_ARGUMENT", http: 400 },
  // Who asked may not, or speaks wrongly.
  TOKEN_INVALID: { retry: "never", grpc: "UNAUTHENTICATED", http: 401 },
  READ_ONLY: { retry: "never", grpc: "PERMISSION_DENIED", http: 403 },
  ASSET_REFUSED: { retry: "never", grpc: "PERMISSION_DENIED", http: 403 },
  ORIGIN_REFUSED: { retry: "never", grpc: "PERMISSION_DENIED", http: 403 },
  MEDIA_TYPE_REFUSED: { retry: "never", grpc: "INVALID_ARGUMENT", http: 415 },
  VERSION_MISMATCH: { retry: "never", grpc: "FAILED_PRECONDITION", http: 426 },
  FRAME_INVALID: { retry: "never", grpc: "INVALID_ARGUMENT", http: 400 },
  FRAME_TOO_LONG: { retry: "never", grpc: "INVALID_ARGUMENT", http: 413 },
  // The world is in the way.
  LIMIT_EXCEEDED: { retry: "later", grpc: "RESOURCE_EXHAUSTED", http: 429 },
  NO_SPACE: { retry: "later", grpc: "RESOURCE_EXHAUSTED", http: 507 },
  BIND_REFUSED: { retry: "never", grpc: "FAILED_PRECONDITION", http: 403 },
  PORT_BUSY: { retry: "later", grpc: "UNAVAILABLE", http: 503 },
  PEER_UNREACHABLE: { retry: "later", grpc: "UNAVAILABLE", http: 503 },
  PEER_SILENT: { retry: "later", grpc: "UNAVAILABLE", http: 503 },
  WORKER_ID_TAKEN: { retry: "later", grpc: "ALREADY_EXISTS", http: 409 },
  DRAINING: { retry: "later", grpc: "UNAVAILABLE", http: 503 },
  CANCELLED: { retry: "never", grpc: "CANCELLED", http: 499 },
  // We, or the machine that we chose, failed at our part of a task.
  COMMAND_NOT_STARTED: { retry: "never", grpc: "INVALID_ARGUMENT", http: 422 },
  CHECKOUT_FAILED: { retry: "later", grpc: "INTERNAL", http: 500 },
  CAPTURE_FAILED: { retry: "later", grpc: "INTERNAL", http: 500 },
  TASK_UNPLACEABLE: { retry: "later", grpc: "FAILED_PRECONDITION", http: 422 },
  MEMORY_EXCEEDED: { retry: "later", grpc: "RESOURCE_EXHAUSTED", http: 422 },
  WORKER_LOST: { retry: "later", grpc: "UNAVAILABLE", http: 503 },
  INTERNAL: { retry: "never", grpc: "INTERNAL", http: 500 },
} as const satisfies Record<string, FaultMeaning>;

export type FaultCode = keyof typeof faults;

/** An expected failure. `cause` is kept, so the first failure is never lost under the ones it led to. */
export class Fault extends Error {
  readonly code: FaultCode;
  constructor(code: FaultCode, message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.name = "Fault";
    this.code = code;
  }
  get meaning(): FaultMeaning {
    return faults[this.code];
  }
}

/** A fault as it is saved and sent. */
export interface FaultData {
  readonly code: FaultCode;
  readonly message: string;
}

/**
 * Anything thrown, as a fault: faults pass, a full disk (`ENOSPC`, `EDQUOT`) becomes `NO_SPACE`, all else `INTERNAL`.
 *
 * @param doing what was being done, as the start of a sentence: "Cannot capture src/a.ts".
 */
export function asFault(thrown: unknown, doing?: string): Fault {
  if (thrown instanceof Fault) return thrown;
  const text = thrown instanceof Error ? thrown.message : String(thrown);
  const message = doing === undefined ? text : `${doing}: ${text}`;
  const errno = (thrown as { code?: unknown } | null)?.code;
  const code = errno === "ENOSPC" || errno === "EDQUOT" ? "NO_SPACE" : "INTERNAL";
  return new Fault(code, message, { cause: thrown });
}

/** Of a message that is saved and sent: some hold what a stranger or a system call said. */
const messageMax = 4_000;

export const faultData = ({ code, message }: Fault): FaultData => ({ code, message: message.slice(0, messageMax) });

export const isFault = (thrown: unknown, code: FaultCode): thrown is Fault =>
  thrown instanceof Fault && thrown.code === code;
