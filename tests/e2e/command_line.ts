import type { TestCluster } from "../../scripts/support/cluster.ts";
import { connectClient } from "../../src/api/client.ts";
import { program } from "../../src/cli/program.ts";
import { realClock } from "../../src/runtime/clock.ts";
import { randomHex } from "../../src/runtime/random.ts";
import { type FakeWorld, fakeWorld, type FakeWorldOptions } from "../cli/fakes.ts";

export interface Typed {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly world: FakeWorld;
}

/** Types a line in a folder, to a real cluster: all is real but the terminal. */
export async function typeTo(
  cluster: TestCluster,
  userDir: string,
  line: readonly string[],
  options: FakeWorldOptions & { readonly onWorld?: (world: FakeWorld) => void } = {},
): Promise<Typed> {
  const world: FakeWorld = {
    ...fakeWorld({ ...options, userDir, clock: realClock }),
    randomHex,
    connect: () => Promise.resolve(connectClient({ url: cluster.ready.http, token: cluster.token })),
  };
  options.onWorld?.(world);
  const code = await program(line, world);
  return { code, stdout: world.stdout.text(), stderr: world.stderr.text(), world };
}

/** The id of the job in what a command wrote with --json. */
export const submittedJob = ({ stdout }: Typed): string => {
  const found = /"type":"submitted","jobId":"([^"]+)"/.exec(stdout)?.[1];
  if (found === undefined) throw new Error(`no job was submitted: ${stdout}`);
  return found;
};
