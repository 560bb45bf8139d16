import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { Fault } from "../../domain/fault.ts";
import { list, text, usage } from "../flags.ts";
import { command, jsonFlag } from "../command.ts";
import { exitCodes } from "../exit_codes.ts";
import { jsonLine, lookOf, plain, table } from "../render.ts";

export const conformance = command({
  name: "conformance",
  usage: ["conformance grpc://HOST:PORT [--instance NAME] [--only ID]... [--header NAME=VALUE]... [--json]"],
  about:
    "Tries the lines of a checklist on a server of the Remote Execution API, this one or any other, and says by their ids which hold, which fail and which are of something that the server does not offer. It stores small blobs there, and where the server executes it runs small commands: use an instance where that harms nobody. It takes a minute or two.",
  examples: [
    ["conformance grpc://127.0.0.1:9090", "a line for each check; exits with 1 when one does not hold"],
    ["conformance grpc://127.0.0.1:9090 --only W --only R-4", "uploads alone, and one line about reads"],
    ["conformance grpcs://HOST:443 --token-file FILE", "over TLS, with a token"],
  ],
  flags: {
    instance: text("NAME", "The instance to use there; none by default"),
    only: list("ID", "Only this line, or those of its part: W-7, W"),
    header: list("NAME=VALUE", "Sent with every call"),
    "token-file": text("FILE", 'Where the token lies that every call brings ("authorization: Bearer …")'),
    ...jsonFlag,
  },
  words: { min: 1, max: 1 },
  async run({ words: [url = ""], flags, world, isJson }) {
    const [, scheme, address] = /^(grpcs?):\/\/([^/\s]+:\d{1,5})\/?$/.exec(url) ?? [];
    if (address === undefined) {
      throw new Fault("USAGE_INVALID", `Cannot reach "${url}" as it must be grpc://HOST:PORT or grpcs://HOST:PORT`);
    }
    const { probeClient } = await import("../../conformance/client.ts");
    const { checksOf, runChecks } = await import("../../conformance/run.ts");
    const { only } = flags;
    if (checksOf({ only }).length === 0) {
      throw usage(
        `Cannot try ${only.join(", ")} as it must be an id of the checklist such as W-7, or a part such as W`,
      );
    }
    const headers = headersOf(flags.header, flags["token-file"], world.userDir);
    const client = probeClient({ address, instance: flags.instance ?? "", isSecure: scheme === "grpcs", headers });
    const rows: string[][] = [];
    const counts = { holds: 0, fails: 0, "not offered": 0 };
    try {
      for await (const verdict of runChecks(client, { only })) {
        counts[verdict.result]++;
        if (isJson) await world.stdout.write(jsonLine({ ...verdict }));
        else rows.push([verdict.id, verdict.result, plain(verdict.says), plain(verdict.why ?? "")]);
      }
    } catch (thrown) {
      if (typeof (thrown as { code?: unknown }).code !== "number") throw thrown;
      const why = (thrown as Error).message;
      throw new Fault("PEER_UNREACHABLE", `Cannot try ${url} as it must say what it can do: ${why}`);
    } finally {
      client.close();
    }
    if (!isJson) {
      await world.stdout.write(table(lookOf(world), ["ID", "RESULT", "CHECK", "WHY"], rows));
      const { holds, fails, "not offered": notOffered } = counts;
      await world.stdout.write(`${holds} hold, ${fails} fail, ${notOffered} are not offered\n`);
    }
    return counts.fails === 0 ? exitCodes.done : exitCodes.failed;
  },
});

function headersOf(
  given: readonly string[],
  tokenFile: string | undefined,
  userDir: string,
): Readonly<Record<string, string>> {
  const headers: Record<string, string> = {};
  for (const each of given) {
    const [, name, value] = /^([A-Za-z0-9_.-]+)=(.*)$/.exec(each) ?? [];
    if (name === undefined || value === undefined) {
      throw usage(`Cannot read --header as it must be NAME=VALUE: current value is "${each}"`);
    }
    headers[name.toLowerCase()] = value;
  }
  if (tokenFile === undefined) return headers;
  try {
    return { ...headers, authorization: `Bearer ${readFileSync(resolve(userDir, tokenFile), "utf8").trim()}` };
  } catch (cause) {
    throw new Fault("USAGE_INVALID", `Cannot read the token in ${tokenFile}: ${(cause as Error).message}`, { cause });
  }
}
