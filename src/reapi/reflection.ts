import { Buffer } from "node:buffer";
import { Fault } from "../domain/fault.ts";
import { type Descriptor, descriptors } from "../protocol/reapi/descriptors.ts";
import type { MessageOf } from "../protocol/reapi/codec.ts";
import type { reflectionRequest } from "../protocol/reapi/messages.ts";
import { reflection } from "../protocol/reapi/services.ts";
import { type Served, serveDialogue, statusOf } from "./calls.ts";

/** Says what services there are and what their messages look like, so that `grpcurl` and its like need no files. */
export function serveReflection(served: Served, services: readonly string[]): void {
  const byName = new Map(descriptors.map((each) => [each.name, each]));
  const bySymbol = new Map(descriptors.flatMap((each) => each.symbols.map((symbol) => [symbol, each] as const)));
  /** The file and all that it imports. */
  const withImports = (file: Descriptor, found = new Set<Descriptor>()): ReadonlySet<Descriptor> => {
    if (found.has(file)) return found;
    found.add(file);
    for (const name of file.imports) withImports(byName.get(name)!, found);
    return found;
  };
  const answer = (request: MessageOf<typeof reflectionRequest>) => {
    if (request.listServices.length > 0) {
      return { listServicesResponse: { service: services.map((name) => ({ name })) } };
    }
    const { fileByFilename, fileContainingSymbol } = request;
    const file = fileByFilename === "" ? bySymbol.get(fileContainingSymbol) : byName.get(fileByFilename);
    if (file === undefined) {
      const what = (fileByFilename || fileContainingSymbol || "an extension").slice(0, 200);
      // As the protocol has it, within an answer: the next question of the same call is answered.
      const { message } = statusOf(new Fault("PATH_UNKNOWN", `Cannot describe "${what}": it is not spoken here`));
      return { errorResponse: { errorCode: statusOf(new Fault("PATH_UNKNOWN", "")).code, errorMessage: message } };
    }
    const files = [...withImports(file)].map(({ base64 }) => Buffer.from(base64, "base64"));
    return { fileDescriptorResponse: { fileDescriptorProto: files } };
  };
  for (const method of Object.values(reflection)) {
    serveDialogue(served, method, (bytes) => {
      const request = reflection.v1.request.decode(bytes);
      return { validHost: request.host, originalRequest: bytes, ...answer(request) };
    });
  }
}
