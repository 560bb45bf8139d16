import type { Buffer } from "node:buffer";
import type { ServiceDefinition } from "@grpc/grpc-js";

const asIs = (bytes: Buffer): Buffer => bytes;

/** A gRPC service without schemas: bytes in, bytes out. */
export const echoService: ServiceDefinition = {
  Echo: {
    path: "/scoot.test.Echo/Echo",
    requestStream: false,
    responseStream: false,
    requestSerialize: asIs,
    requestDeserialize: asIs,
    responseSerialize: asIs,
    responseDeserialize: asIs,
  },
};
