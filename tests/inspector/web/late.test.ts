import { expect, test } from "vitest";
import { late } from "../../../src/inspector/web/late.ts";

/** A question whose answer comes when it is told to. */
function slow() {
  const waiting: ((answer: string) => void)[] = [];
  return {
    find: () => new Promise<string>((resolve) => waiting.push(resolve)),
    begun: () => waiting.length,
    answer: (place: number, text: string): void => waiting[place]!(text),
  };
}

test("what comes soon is waited for, and is not found twice for one moment", async () => {
  const ask = late<string>();
  expect(await ask("job", "1", () => Promise.resolve("graph"))).toEqual({ answer: "graph", isLate: false });
  expect(await ask("job", "1", () => Promise.reject(new Error("again")))).toEqual({ answer: "graph", isLate: false });
});

test("what is late is shown when it is there, and meanwhile what was found last", async () => {
  let nowMs = 0;
  const ask = late<string>(() => nowMs);
  const { find, begun, answer } = slow();
  expect(await ask("job", "1", find)).toEqual({ isLate: true });
  expect(await ask("job", "2", find)).toEqual({ isLate: true });
  expect(begun()).toBe(1); // one at a time
  nowMs = 1_000;
  answer(0, "of 1");
  expect(await ask("job", "1", find)).toEqual({ answer: "of 1", isLate: false });
  expect(await ask("job", "3", find)).toEqual({ answer: "of 1", isLate: true });
  expect(begun()).toBe(1); // it took a second: it rests
  nowMs = 6_000;
  const next = ask("job", "3", find);
  expect(begun()).toBe(2);
  answer(1, "of 3");
  await next;
  expect(await ask("job", "3", find)).toEqual({ answer: "of 3", isLate: false });
});

test("an answer to what is no longer asked is forgotten", async () => {
  const ask = late<string>();
  const { find, answer } = slow();
  expect(await ask("one", "1", find)).toEqual({ isLate: true });
  const other = ask("other", "1", find);
  answer(0, "of one");
  answer(1, "of the other");
  expect(await other).toEqual({ answer: "of the other", isLate: false });
});
