import { Buffer } from "node:buffer";
import { readFileSync } from "node:fs";
import { Client, credentials, status } from "@grpc/grpc-js";
import { afterEach, expect, test } from "vitest";
import { describeProtos } from "../../scripts/describe_protos.ts";
import { encoded, message, type MessageOf, text, texts } from "../../src/protocol/reapi/codec.ts";
import { reflectionRequest, type reflectionResponse } from "../../src/protocol/reapi/messages.ts";
import { methods, reflection } from "../../src/protocol/reapi/services.ts";
import { type Rig, startRig } from "./rig.ts";

let rig: Rig;
afterEach(() => rig.close());

type Question = Partial<MessageOf<typeof reflectionRequest>>;
type Answer = MessageOf<typeof reflectionResponse>;

/** All questions in one call. */
async function ask(
  method: (typeof reflection)["v1"],
  questions: readonly (Question | Uint8Array)[],
): Promise<Answer[]> {
  const client = new Client(rig.address, credentials.createInsecure());
  try {
    const call = client.makeBidiStreamRequest(
      method.path,
      (bytes: Uint8Array) => Buffer.from(bytes),
      method.response.decode,
    );
    for (const question of questions) {
      call.write(question instanceof Uint8Array ? question : reflectionRequest.encode(question));
    }
    call.end();
    const answers: Answer[] = [];
    for await (const answer of call.iterator({ destroyOnReturn: false })) answers.push(answer as Answer);
    return answers;
  } finally {
    client.close();
  }
}
const list: Question = { listServices: [Buffer.from("*")] };
const namesIn = (answer: Answer | undefined) => answer?.listServicesResponse?.service.map(({ name }) => name);
const file = message("a file", { name: text(1), package: text(2), dependencies: texts(3), services: encoded(6) });

test("T-9: reflection lists what is served, under both of its names, whatever the list is asked with", async () => {
  rig = await startRig();
  for (const method of Object.values(reflection)) {
    const answers = await ask(method, [list, { listServices: [new Uint8Array(0)] }]);
    for (const answer of answers) {
      expect(namesIn(answer)).toEqual(expect.arrayContaining([
        "build.bazel.remote.execution.v2.ContentAddressableStorage",
        "google.bytestream.ByteStream",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
      ]));
      expect(namesIn(answer)).not.toContain("build.bazel.remote.execution.v2.Execution");
    }
  }
});

test("T-9: every method that is served is described, with all that the description needs", async () => {
  rig = await startRig();
  const served = [...Object.values(methods), ...Object.values(reflection)].map(({ path }) => path.slice(1));
  for (const path of served) {
    const [service, name] = path.split("/");
    const answers = await ask(
      reflection.v1,
      [service!, `${service}.${name}`].map((fileContainingSymbol) => ({
        fileContainingSymbol,
      })),
    );
    for (const answer of answers) {
      const files = answer.fileDescriptorResponse!.fileDescriptorProto.map((bytes) => file.decode(bytes));
      expect(files[0]!.services.some((bytes) => service!.endsWith(`.${file.decode(bytes).name}`))).toBe(true);
      const names = new Set(files.map((each) => each.name));
      for (const { dependencies } of files) for (const needed of dependencies) expect(names).toContain(needed);
    }
  }
});

test("T-9: what is not here is told within the call, which goes on", async () => {
  rig = await startRig();
  const answers = await ask(reflection.v1, [
    { fileContainingSymbol: "no.Such" },
    { fileByFilename: "no.proto", host: "h" },
    {},
    { fileByFilename: "rpc.proto" },
  ]);
  expect(answers.map((answer) => answer.errorResponse?.errorCode)).toEqual([
    status.NOT_FOUND,
    status.NOT_FOUND,
    status.NOT_FOUND,
    undefined,
  ]);
  expect(answers[1]!.validHost).toBe("h");
  expect(reflectionRequest.decode(answers[1]!.originalRequest)).toMatchObject({ fileByFilename: "no.proto" });
});

test("T-9: bytes that are no request end the call with INVALID_ARGUMENT; whoever is not trusted brings the token", async () => {
  rig = await startRig({ isTrusted: false });
  await expect(ask(reflection.v1, [list])).rejects.toMatchObject({ code: status.UNAUTHENTICATED });
  await rig.close();
  rig = await startRig();
  await expect(ask(reflection.v1, [Uint8Array.of(0x0a, 0xff)])).rejects.toMatchObject({
    code: status.INVALID_ARGUMENT,
  });
});

test("the descriptors are those of proto/", () => {
  expect(readFileSync(new URL("../../src/protocol/reapi/descriptors.ts", import.meta.url), "utf8"))
    .toBe(describeProtos());
});
