import { join } from "node:path";
import { root } from "../run_program.ts";

/** Real Bazels, which would download a few repositories at their start: what stands for them is in tests/bazel. */
export interface Bazel {
  readonly program: string;
  /** By name, the folder of what stands for it. */
  readonly repositories: Readonly<Record<string, string>>;
}

const debian = "/usr/share/bazel";
/** The workspaces to build, and the repositories that are our own. */
export const stubs = join(root, "tests", "bazel");
export const ownRepositories = {
  rules_cc: join(stubs, "rules_cc"),
  remote_coverage_tools: join(stubs, "remote_coverage_tools"),
};

/** Debian's 4.2.3, of its packages bazel-bootstrap, bazel-platforms, bazel-rules-java, bazel-rules-proto and bazel-skylib. */
export const bazel4: Bazel = {
  program: "/usr/bin/bazel",
  repositories: {
    ...ownRepositories,
    rules_java: `${debian}/rules/java`,
    rules_proto: `${debian}/rules/proto`,
    bazel_skylib: `${debian}/tools/skylib`,
  },
};

/** Flags of a build or test. */
export const overridesOf = ({ repositories }: Bazel): readonly string[] =>
  Object.entries(repositories).map(([name, path]) => `--override_repository=${name}=${path}`);

/** Of "INFO: 19 processes: 10 remote cache hit, 9 internal.": how many of each kind. */
export function processesOf(output: string): ReadonlyMap<string, number> {
  const line = /INFO: \d+ process(?:es)?: ([^\n]*)\./.exec(output)?.[1] ?? "";
  return new Map([...line.matchAll(/(\d+) ([^,]+)/g)].map(([, count, kind]) => [kind!, Number(count)]));
}
