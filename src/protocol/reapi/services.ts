import type { Codec } from "./codec.ts";
import * as m from "./messages.ts";

/** The methods that we speak: server, conformance runner and benches take them from here. */
export interface Method<Request, Response> {
  /** "/package.Service/Method" */
  readonly path: string;
  readonly kind: "unary" | "clientStream" | "serverStream" | "dialogue";
  readonly request: Codec<Request>;
  readonly response: Codec<Response>;
}

const method = <Request, Response>(
  path: string,
  request: Codec<Request>,
  response: Codec<Response>,
  kind: Method<Request, Response>["kind"] = "unary",
): Method<Request, Response> => ({ path, kind, request, response });

const reapi = "/build.bazel.remote.execution.v2.";
const cas = `${reapi}ContentAddressableStorage/`;
const operations = "/google.longrunning.Operations/";
const asset = "/build.bazel.remote.asset.v1.";
const byteStream = "/google.bytestream.ByteStream/";

/** A message that stays encoded. */
export const opaque: Codec<Uint8Array> = {
  what: "a message",
  encode: (bytes) => bytes as Uint8Array<ArrayBuffer>,
  decode: (bytes) => bytes,
};

export const methods = {
  getCapabilities: method(`${reapi}Capabilities/GetCapabilities`, m.getCapabilitiesRequest, m.serverCapabilities),
  findMissingBlobs: method(`${cas}FindMissingBlobs`, m.findMissingBlobsRequest, m.findMissingBlobsResponse),
  batchUpdateBlobs: method(`${cas}BatchUpdateBlobs`, m.batchUpdateBlobsRequest, m.batchUpdateBlobsResponse),
  batchReadBlobs: method(`${cas}BatchReadBlobs`, m.batchReadBlobsRequest, m.batchReadBlobsResponse),
  getTree: method(`${cas}GetTree`, m.getTreeRequest, m.getTreeResponse, "serverStream"),
  splitBlob: method(`${cas}SplitBlob`, m.splitBlobRequest, m.splitBlobResponse),
  spliceBlob: method(`${cas}SpliceBlob`, m.spliceBlobRequest, m.spliceBlobResponse),
  read: method(`${byteStream}Read`, m.readRequest, m.readResponse, "serverStream"),
  write: method(`${byteStream}Write`, m.writeRequest, m.writeResponse, "clientStream"),
  queryWriteStatus: method(`${byteStream}QueryWriteStatus`, m.queryWriteStatusRequest, m.queryWriteStatusResponse),
  getActionResult: method(`${reapi}ActionCache/GetActionResult`, m.getActionResultRequest, opaque),
  updateActionResult: method(`${reapi}ActionCache/UpdateActionResult`, m.updateActionResultRequest, opaque),
  execute: method(`${reapi}Execution/Execute`, m.executeRequest, m.operation, "serverStream"),
  waitExecution: method(`${reapi}Execution/WaitExecution`, m.waitExecutionRequest, m.operation, "serverStream"),
  getOperation: method(`${operations}GetOperation`, m.getOperationRequest, m.operation),
  listOperations: method(`${operations}ListOperations`, m.listOperationsRequest, m.listOperationsResponse),
  cancelOperation: method(`${operations}CancelOperation`, m.cancelOperationRequest, m.empty),
  waitOperation: method(`${operations}WaitOperation`, m.waitOperationRequest, m.operation),
  fetchBlob: method(`${asset}Fetch/FetchBlob`, m.fetchBlobRequest, m.fetchBlobResponse),
  fetchDirectory: method(`${asset}Fetch/FetchDirectory`, m.fetchDirectoryRequest, m.fetchDirectoryResponse),
  pushBlob: method(`${asset}Push/PushBlob`, m.pushBlobRequest, m.empty),
  pushDirectory: method(`${asset}Push/PushDirectory`, m.pushDirectoryRequest, m.empty),
  createLogStream: method(
    "/build.bazel.remote.logstream.v1.LogStreamService/CreateLogStream",
    m.createLogStreamRequest,
    m.logStream,
  ),
  checkHealth: method("/grpc.health.v1.Health/Check", m.healthCheckRequest, m.healthCheckResponse),
} as const;

/** What services there are; under both names by which clients ask. Requests are answered with as they came. */
export const reflection = {
  v1: method(
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    m.reflectionRequest,
    m.reflectionResponse,
    "dialogue",
  ),
  v1alpha: method(
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    m.reflectionRequest,
    m.reflectionResponse,
    "dialogue",
  ),
} as const;
