// Each file is a task of its own: a change compiles that file anew, and nothing else.
const sources = ["main", "greet"];

for (const name of sources) {
  task(`compile ${name}`, {
    inputs: [`src/${name}.c`, "src/*.h"],
    run: ["cc", "-O2", "-Wall", "-c", `src/${name}.c`, "-o", `${name}.o`],
    out: [`${name}.o`],
  });
}

task("link", {
  inputs: [],
  mount: Object.fromEntries(sources.map((name) => [`${name}.o`, `compile ${name}`])),
  run: "cc *.o -o greet",
  out: ["greet"],
});

task("test", {
  inputs: ["test/**"],
  mount: { greet: "link" },
  run: 'test "$(./greet)" = "$(cat test/expected.txt)"',
});
