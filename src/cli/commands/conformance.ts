import { Fault } from "../../domain/fault.ts";
import { text } from "../flags.ts";
import { command, jsonFlag } from "../command.ts";
import { exitCodes } from "../exit_codes.ts";
import { jsonLine, lookOf, plain, table } from "../render.ts";

export const conformance = command({
  name: "conformance",
  usage: ["conformance grpc://HOST:PORT [--instance NAME] [--json]"],
  about:
    "Tries the lines of a checklist on a server of the Remote Execution API, this one or any other, and says by their ids which hold. It stores some small blobs there.",
  examples: [["conformance grpc://127.0.0.1:9090", "a line for each check; exits with 1 when one does not hold"]],
  flags: { instance: text("NAME", "The instance to use there; none by default"), ...jsonFlag },
  words: { min: 1, max: 1 },
  async run({ words: [url = ""], flags, world, isJson }) {
    const address = /^grpc:\/\/([^/\s]+:\d{1,5})\/?$/.exec(url)?.[1];
    if (address === undefined) {
      throw new Fault("USAGE_INVALID", `Cannot reach "${url}" as it must be grpc://HOST:PORT`);
    }
    const { probeClient } = await import("../../conformance/client.ts");
    const { runChecks } = await import("../../conformance/run.ts");
    const client = probeClient(address, flags.instance ?? "");
    const rows: string[][] = [];
    let failed = 0;
    try {
      for await (const verdict of runChecks(client)) {
        if (verdict.why !== undefined) failed++;
        if (isJson) await world.stdout.write(jsonLine({ ...verdict, ok: verdict.why === undefined }));
        else {rows.push([
            verdict.id,
            verdict.why === undefined ? "holds" : "fails",
            plain(verdict.says),
            plain(verdict.why ?? ""),
          ]);}
      }
    } finally {
      client.close();
    }
    if (!isJson) await world.stdout.write(table(lookOf(world), ["ID", "RESULT", "CHECK", "WHY"], rows));
    return failed === 0 ? exitCodes.done : 1;
  },
});
