import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { Buffer } from "node:buffer";
import { join } from "node:path";
import { bool, encoded, int, message, one, text, texts } from "../src/protocol/reapi/codec.ts";
import { root } from "./run_program.ts";

/**
 * `deno run -A scripts/describe_protos.ts`: the files of proto/ as FileDescriptorProtos, which the gateway answers who
 * asks by reflection: src/protocol/reapi/descriptors.ts. It reads of the language what those files use.
 */

// google/protobuf/descriptor.proto. What is nested in a like is written first.
const fieldProto = message("a field", {
  name: text(1),
  number: int(3),
  label: int(4),
  type: int(5),
  typeName: text(6),
  jsonName: text(10),
});
const messageProto = message("a message", {
  name: text(1),
  fields: encoded(2),
  nested: encoded(3),
  options: one(7, message("options", { mapEntry: bool(7) })),
});
const methodProto = message("a method", {
  name: text(1),
  input: text(2),
  output: text(3),
  clientStreaming: bool(5),
  serverStreaming: bool(6),
});
const serviceProto = message("a service", { name: text(1), methods: encoded(2) });
const fileProto = message("a file", {
  name: text(1),
  package: text(2),
  dependencies: texts(3),
  messages: encoded(4),
  services: encoded(6),
  syntax: text(12),
});
const scalars: Readonly<Record<string, number>> = { int64: 3, int32: 5, bool: 8, string: 9, bytes: 12 };
const messageType = 11;
const labels = { optional: 1, repeated: 3 } as const;

interface Field {
  readonly name: string;
  readonly number: number;
  readonly type: string;
  readonly isRepeated: boolean;
}
interface Message {
  readonly name: string;
  readonly fields: Field[];
  readonly nested: Message[];
  readonly isMapEntry: boolean;
}
interface Method {
  readonly name: string;
  readonly input: string;
  readonly output: string;
  readonly clientStreaming: boolean;
  readonly serverStreaming: boolean;
}
interface File {
  readonly name: string;
  package: string;
  readonly imports: string[];
  readonly messages: Message[];
  readonly services: { readonly name: string; readonly methods: Method[] }[];
}

const camel = (name: string): string => name.replaceAll(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
const pascal = (name: string): string => camel(`_${name}`);

function parse(name: string, source: string): File {
  const tokens = source.replaceAll(/\/\/[^\n]*/g, "").match(/[A-Za-z_][\w.]*|[0-9]+|"[^"]*"|[{}()=;<>,]/g) ?? [];
  let at = 0;
  const next = (): string => tokens[at++] ?? "";
  const need = (wanted: string): void => {
    const found = next();
    if (found !== wanted) {
      throw new Error(`${name}: "${wanted}" is wanted before ${tokens.slice(at, at + 5).join(" ")}`);
    }
  };
  const is = (wanted: string): boolean => tokens[at] === wanted && at++ >= 0;
  const readMessage = (): Message => {
    const made: Message = { name: next(), fields: [], nested: [], isMapEntry: false };
    need("{");
    while (!is("}")) {
      if (is("message")) {
        made.nested.push(readMessage());
        continue;
      }
      let isRepeated = is("repeated");
      let type = next();
      let entry: string | undefined;
      if (type === "map") {
        need("<");
        const key = next();
        need(",");
        entry = next();
        need(">");
        isRepeated = true;
        type = key;
      }
      const field = next();
      need("=");
      const number = Number(next());
      need(";");
      if (entry !== undefined) {
        const fields = [["key", type], ["value", entry]].map(([of, its], index) => ({
          name: of!,
          number: index + 1,
          type: its!,
          isRepeated: false,
        }));
        type = `${pascal(field)}Entry`;
        made.nested.push({ name: type, fields, nested: [], isMapEntry: true });
      }
      made.fields.push({ name: field, number, type, isRepeated });
    }
    return made;
  };
  const readMethod = (): Method => {
    const method = next();
    const side = (): { readonly type: string; readonly isStream: boolean } => {
      need("(");
      const isStream = is("stream");
      const type = next();
      need(")");
      return { type, isStream };
    };
    const input = side();
    need("returns");
    const output = side();
    need(";");
    return {
      name: method,
      input: input.type,
      output: output.type,
      clientStreaming: input.isStream,
      serverStreaming: output.isStream,
    };
  };
  const file: File = { name, package: "", imports: [], messages: [], services: [] };
  while (at < tokens.length) {
    const word = next();
    if (word === "syntax") {
      need("=");
      need('"proto3"');
      need(";");
    } else if (word === "package") {
      file.package = next();
      need(";");
    } else if (word === "import") {
      file.imports.push(next().slice(1, -1));
      need(";");
    } else if (word === "message") file.messages.push(readMessage());
    else if (word === "service") {
      const service = { name: next(), methods: [] as Method[] };
      need("{");
      while (!is("}")) {
        need("rpc");
        service.methods.push(readMethod());
      }
      file.services.push(service);
    } else throw new Error(`${name}: "${word}" is not known here`);
  }
  return file;
}

const fullNames = (scope: string, { name, nested }: Message): string[] => [
  `${scope}.${name}`,
  ...nested.flatMap((each) => fullNames(`${scope}.${name}`, each)),
];

function encodeFile(file: File, known: ReadonlySet<string>): Uint8Array {
  /** As the language has it: innermost first. */
  const resolve = (type: string, scope: string): string => {
    for (let outer = scope; outer !== ""; outer = outer.slice(0, Math.max(0, outer.lastIndexOf(".")))) {
      if (known.has(`${outer}.${type}`)) return `.${outer}.${type}`;
    }
    if (known.has(type)) return `.${type}`;
    throw new Error(`${file.name}: there is no ${type} for ${scope}`);
  };
  const encodeMessage = (each: Message, outer: string): Uint8Array => {
    const scope = `${outer}.${each.name}`;
    return messageProto.encode({
      name: each.name,
      fields: each.fields.map(({ name, number, type, isRepeated }) => {
        const scalar = scalars[type];
        return fieldProto.encode({
          name,
          number,
          label: isRepeated ? labels.repeated : labels.optional,
          type: scalar ?? messageType,
          ...(scalar === undefined ? { typeName: resolve(type, scope) } : {}),
          jsonName: camel(name),
        });
      }),
      nested: each.nested.map((inner) => encodeMessage(inner, scope)),
      ...(each.isMapEntry ? { options: { mapEntry: true } } : {}),
    });
  };
  return fileProto.encode({
    name: file.name,
    package: file.package,
    dependencies: file.imports,
    messages: file.messages.map((each) => encodeMessage(each, file.package)),
    services: file.services.map(({ name, methods }) =>
      serviceProto.encode({
        name,
        methods: methods.map((each) =>
          methodProto.encode({
            ...each,
            input: resolve(each.input, file.package),
            output: resolve(each.output, file.package),
          })
        ),
      })
    ),
    syntax: "proto3",
  });
}

/** The text of src/protocol/reapi/descriptors.ts. */
export function describeProtos(): string {
  const sources = readdirSync(join(root, "proto")).filter((name) => name.endsWith(".proto")).sort()
    .map((name) => [name, readFileSync(join(root, "proto", name), "utf8")] as const);
  const alpha = sources.filter(([name]) => name === "reflection.proto")
    .map(([, source]) =>
      [
        "reflection_v1alpha.proto",
        source.replace("package grpc.reflection.v1;", "package grpc.reflection.v1alpha;"),
      ] as const
    );
  const files = [...sources, ...alpha].map(([name, source]) => parse(name, source));
  const known = new Set(files.flatMap((file) => file.messages.flatMap((each) => fullNames(file.package, each))));
  const entries = files.map((file) => {
    const symbols = [
      ...file.services.flatMap(({ name, methods }) => [
        `${file.package}.${name}`,
        ...methods.map((method) => `${file.package}.${name}.${method.name}`),
      ]),
      ...file.messages.flatMap((each) => fullNames(file.package, each)),
    ];
    return `  {
    name: ${JSON.stringify(file.name)},
    imports: ${JSON.stringify(file.imports)},
    symbols: ${JSON.stringify(symbols)},
    base64: ${JSON.stringify(Buffer.from(encodeFile(file, known)).toString("base64"))},
  },`;
  });
  return `// Made by scripts/describe_protos.ts from proto/.

/** A file of proto/ as a FileDescriptorProto. */
export interface Descriptor {
  readonly name: string;
  readonly imports: readonly string[];
  /** Full names of its services, methods and messages. */
  readonly symbols: readonly string[];
  readonly base64: string;
}

// deno-fmt-ignore
export const descriptors: readonly Descriptor[] = [
${entries.join("\n")}
];
`;
}

if (import.meta.main) writeFileSync(join(root, "src", "protocol", "reapi", "descriptors.ts"), describeProtos());
