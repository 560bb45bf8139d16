// `task` is there while scoot-actors reads this file; `import { task } from "scoot-actors"` gives the same with types.
const env = { PATH: process.env.PATH };

task("build", { inputs: ["src/**", "build.mjs"], run: "node build.mjs", out: ["dist"], env });

task("test", {
  inputs: ["test/**", "package.json"],
  mount: { dist: "build" }, // what build made at dist is there at dist
  run: ["node", "--test"],
  env,
  timeout: "5m",
});
