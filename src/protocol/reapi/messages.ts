import { bool, bytes, digest, digests, encoded, int, ints, many, message, one, text, texts } from "./codec.ts";

import { bytesWire, WireWriter } from "./wire.ts";

/**
 * The messages of the services that we speak: proto/ says what each is for. Field names are those of the public contract
 * in camel case.
 */

/** Of `DigestFunction.Value`: 0 is what clients send that know none. */
export const sha256Function = 1;
/** `Compressor.Value`. */
export const compressors = { identity: 0, zstd: 1, deflate: 2 } as const;

// google.rpc

export const anyMessage = message("an Any", { typeUrl: text(1), value: bytes(2) });
export const rpcStatus = message("a Status", { code: int(1), message: text(2), details: many(3, anyMessage) });

// Capabilities

const semVer = message("a SemVer", { major: int(1), minor: int(2), patch: int(3), prerelease: text(4) });
const priorityRange = message("a PriorityRange", { minPriority: int(1), maxPriority: int(2) });
const priorities = message("PriorityCapabilities", { priorities: many(1, priorityRange) });
const updateCapabilities = message("ActionCacheUpdateCapabilities", { updateEnabled: bool(1) });
const fastCdcParams = message("FastCdc2020Params", { avgChunkSizeBytes: int(1), seed: int(2) });
const cacheCapabilities = message("CacheCapabilities", {
  digestFunctions: ints(1),
  actionCacheUpdateCapabilities: one(2, updateCapabilities),
  cachePriorityCapabilities: one(3, priorities),
  maxBatchTotalSizeBytes: int(4),
  symlinkAbsolutePathStrategy: int(5),
  supportedCompressors: ints(6),
  supportedBatchUpdateCompressors: ints(7),
  splitBlobSupport: bool(9),
  spliceBlobSupport: bool(10),
  fastCdc2020Params: one(11, fastCdcParams),
});
const executionCapabilities = message("ExecutionCapabilities", {
  digestFunction: int(1),
  execEnabled: bool(2),
  executionPriorityCapabilities: one(3, priorities),
  supportedNodeProperties: texts(4),
  digestFunctions: ints(5),
});
export const getCapabilitiesRequest = message("a GetCapabilitiesRequest", { instanceName: text(1) });
export const serverCapabilities = message("ServerCapabilities", {
  cacheCapabilities: one(1, cacheCapabilities),
  executionCapabilities: one(2, executionCapabilities),
  deprecatedApiVersion: one(3, semVer),
  lowApiVersion: one(4, semVer),
  highApiVersion: one(5, semVer),
});

// ContentAddressableStorage

export const findMissingBlobsRequest = message("a FindMissingBlobsRequest", {
  instanceName: text(1),
  blobDigests: digests(2),
  digestFunction: int(3),
});
export const findMissingBlobsResponse = message("a FindMissingBlobsResponse", { missingBlobDigests: digests(2) });

const updateBlob = message("a blob of a BatchUpdateBlobsRequest", {
  digest: digest(1),
  data: bytes(2),
  compressor: int(3),
});
export const batchUpdateBlobsRequest = message("a BatchUpdateBlobsRequest", {
  instanceName: text(1),
  requests: many(2, updateBlob),
  digestFunction: int(5),
});
const updateAnswer = message("an answer of a BatchUpdateBlobsResponse", {
  digest: digest(1),
  status: one(2, rpcStatus),
});
export const batchUpdateBlobsResponse = message("a BatchUpdateBlobsResponse", { responses: many(1, updateAnswer) });

export const batchReadBlobsRequest = message("a BatchReadBlobsRequest", {
  instanceName: text(1),
  digests: digests(2),
  acceptableCompressors: ints(3),
  digestFunction: int(4),
});
const readAnswer = message("an answer of a BatchReadBlobsResponse", {
  digest: digest(1),
  data: bytes(2),
  status: one(3, rpcStatus),
  compressor: int(4),
});
export const batchReadBlobsResponse = message("a BatchReadBlobsResponse", { responses: many(1, readAnswer) });

export const getTreeRequest = message("a GetTreeRequest", {
  instanceName: text(1),
  rootDigest: digest(2),
  pageSize: int(3),
  pageToken: text(4),
  digestFunction: int(5),
});
export const getTreeResponse = message("a GetTreeResponse", { directories: encoded(1), nextPageToken: text(2) });

/** `ChunkingFunction.Value`: 0 is that of clients that leave it to the server. */
export const fastCdc2020Function = 1;
export const splitBlobRequest = message("a SplitBlobRequest", {
  instanceName: text(1),
  blobDigest: digest(2),
  digestFunction: int(3),
  chunkingFunction: int(4),
});
export const splitBlobResponse = message("a SplitBlobResponse", { chunkDigests: digests(1), chunkingFunction: int(2) });
export const spliceBlobRequest = message("a SpliceBlobRequest", {
  instanceName: text(1),
  blobDigest: digest(2),
  chunkDigests: digests(3),
  digestFunction: int(4),
  chunkingFunction: int(5),
});
export const spliceBlobResponse = message("a SpliceBlobResponse", { blobDigest: digest(1) });

// google.bytestream

export const readRequest = message("a ReadRequest", { resourceName: text(1), readOffset: int(2), readLimit: int(3) });
export const readResponse = message("a ReadResponse", { data: bytes(10) });
/** What stands before the data of a ReadResponse. */
export function readResponseHead(dataBytes: number): Uint8Array {
  const writer = new WireWriter(16);
  if (dataBytes > 0) {
    writer.tag(10, bytesWire);
    writer.varint(dataBytes);
  }
  return writer.take();
}
export const writeRequest = message("a WriteRequest", {
  resourceName: text(1),
  writeOffset: int(2),
  finishWrite: bool(3),
  data: bytes(10),
});
export const writeResponse = message("a WriteResponse", { committedSize: int(1) });
export const queryWriteStatusRequest = message("a QueryWriteStatusRequest", { resourceName: text(1) });
export const queryWriteStatusResponse = message("a QueryWriteStatusResponse", {
  committedSize: int(1),
  complete: bool(2),
});

// ActionCache. An ActionResult stays encoded here: it has a codec of its own.

export const getActionResultRequest = message("a GetActionResultRequest", {
  instanceName: text(1),
  actionDigest: digest(2),
  inlineStdout: bool(3),
  inlineStderr: bool(4),
  inlineOutputFiles: texts(5),
  digestFunction: int(6),
});
export const updateActionResultRequest = message("an UpdateActionResultRequest", {
  instanceName: text(1),
  actionDigest: digest(2),
  actionResult: bytes(3),
  digestFunction: int(5),
});

// Execution. An ActionResult stays encoded here, too.

const timestamp = message("a Timestamp", { seconds: int(1), nanos: int(2) });
export const duration = message("a Duration", { seconds: int(1), nanos: int(2) });
const policy = message("a policy of an ExecuteRequest", { priority: int(1) });
export const executeRequest = message("an ExecuteRequest", {
  instanceName: text(1),
  skipCacheLookup: bool(3),
  actionDigest: digest(6),
  executionPolicy: one(7, policy),
  resultsCachePolicy: one(8, policy),
  digestFunction: int(9),
});
export const waitExecutionRequest = message("a WaitExecutionRequest", { name: text(1) });
/** `ExecutionStage.Value`. */
export const stages = { unknown: 0, cacheCheck: 1, queued: 2, executing: 3, completed: 4 } as const;
const partialMetadata = message("ExecutedActionMetadata", {
  worker: text(1),
  queuedTimestamp: one(2, timestamp),
  executionStartTimestamp: one(7, timestamp),
});
export const executeOperationMetadata = message("ExecuteOperationMetadata", {
  stage: int(1),
  actionDigest: digest(2),
  stdoutStreamName: text(3),
  stderrStreamName: text(4),
  partialExecutionMetadata: one(5, partialMetadata),
});
const logFile = message("a LogFile", { digest: digest(1), humanReadable: bool(2) });
const serverLog = message("a server log of an ExecuteResponse", { key: text(1), value: one(2, logFile) });
export const executeResponse = message("an ExecuteResponse", {
  result: bytes(1),
  cachedResult: bool(2),
  status: one(3, rpcStatus),
  serverLogs: many(4, serverLog),
  message: text(5),
});
const violation = message("a violation of a PreconditionFailure", { type: text(1), subject: text(2) });
export const preconditionFailure = message("a PreconditionFailure", { violations: many(1, violation) });
const fieldViolation = message("a violation of a BadRequest", { field: text(1), description: text(2) });
export const badRequest = message("a BadRequest", { fieldViolations: many(1, fieldViolation) });
export const retryInfo = message("a RetryInfo", { retryDelay: one(1, duration) });

// google.longrunning

export const operation = message("an Operation", {
  name: text(1),
  metadata: one(2, anyMessage),
  done: bool(3),
  error: one(4, rpcStatus),
  response: one(5, anyMessage),
});
export const getOperationRequest = message("a GetOperationRequest", { name: text(1) });
export const listOperationsRequest = message("a ListOperationsRequest", {
  filter: text(1),
  pageSize: int(2),
  pageToken: text(3),
  name: text(4),
});
export const listOperationsResponse = message("a ListOperationsResponse", {
  operations: many(1, operation),
  nextPageToken: text(2),
});
export const cancelOperationRequest = message("a CancelOperationRequest", { name: text(1) });
export const waitOperationRequest = message("a WaitOperationRequest", { name: text(1), timeout: one(2, duration) });
export const empty = message("an Empty", {});

// build.bazel.remote.asset

const qualifier = message("a Qualifier", { name: text(1), value: text(2) });
const fetchRequest = {
  instanceName: text(1),
  timeout: one(2, duration),
  oldestContentAccepted: one(3, timestamp),
  uris: texts(4),
  qualifiers: many(5, qualifier),
  digestFunction: int(6),
} as const;
const fetchResponse = { status: one(1, rpcStatus), uri: text(2), qualifiers: many(3, qualifier) } as const;
const pushRequest = {
  instanceName: text(1),
  uris: texts(2),
  qualifiers: many(3, qualifier),
  expireAt: one(4, timestamp),
} as const;
const pushReferences = {
  referencesBlobs: digests(6),
  referencesDirectories: digests(7),
  digestFunction: int(8),
} as const;
export const fetchBlobRequest = message("a FetchBlobRequest", fetchRequest);
export const fetchBlobResponse = message("a FetchBlobResponse", {
  ...fetchResponse,
  blobDigest: digest(5),
  digestFunction: int(6),
});
export const fetchDirectoryRequest = message("a FetchDirectoryRequest", fetchRequest);
export const fetchDirectoryResponse = message("a FetchDirectoryResponse", {
  ...fetchResponse,
  rootDirectoryDigest: digest(5),
  digestFunction: int(6),
});
export const pushBlobRequest = message("a PushBlobRequest", {
  ...pushRequest,
  blobDigest: digest(5),
  ...pushReferences,
});
export const pushDirectoryRequest = message("a PushDirectoryRequest", {
  ...pushRequest,
  rootDirectoryDigest: digest(5),
  ...pushReferences,
});

// build.bazel.remote.logstream

export const createLogStreamRequest = message("a CreateLogStreamRequest", { parent: text(1) });
export const logStream = message("a LogStream", { name: text(1), writeResourceName: text(2) });

// What a client says of itself, in a header.

const toolDetails = message("ToolDetails", { toolName: text(1), toolVersion: text(2) });
export const requestMetadata = message("RequestMetadata", {
  toolDetails: one(1, toolDetails),
  actionId: text(2),
  toolInvocationId: text(3),
  correlatedInvocationsId: text(4),
  actionMnemonic: text(5),
  targetId: text(6),
});

// grpc.reflection

export const reflectionRequest = message("a ServerReflectionRequest", {
  host: text(1),
  fileByFilename: text(3),
  fileContainingSymbol: text(4),
  /** What it says does not matter, but whether it is there. */
  listServices: encoded(7),
});
const service = message("a ServiceResponse", { name: text(1) });
export const reflectionResponse = message("a ServerReflectionResponse", {
  validHost: text(1),
  originalRequest: bytes(2),
  fileDescriptorResponse: one(4, message("a FileDescriptorResponse", { fileDescriptorProto: encoded(1) })),
  listServicesResponse: one(6, message("a ListServiceResponse", { service: many(1, service) })),
  errorResponse: one(7, message("an ErrorResponse", { errorCode: int(1), errorMessage: text(2) })),
});

// grpc.health.v1

export const healthCheckRequest = message("a HealthCheckRequest", { service: text(1) });
export const healthCheckResponse = message("a HealthCheckResponse", { status: int(1) });
/** `ServingStatus`. */
export const serving = 1;
