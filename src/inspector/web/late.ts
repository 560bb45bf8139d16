/** What takes long to find: `isLate` until it is that of the moment that is asked for. */
export interface Late<Answer> {
  /** Of that moment, or else what was found last of the same thing. */
  readonly answer?: Answer;
  readonly isLate: boolean;
}

const waitMs = 200;
/** What took long is found again after so many times as long. */
const restPerFind = 5;

/**
 * A page is shown without what takes long, or with what was found last, and is shown once more when it is there. At most one
 * is being found at a time.
 *
 * @returns a question: of what, at which moment, and how it is found. What `find` throws is thrown, once.
 */
export function late<Answer>(
  now: () => number = () => performance.now(),
): (what: string, moment: string, find: () => Promise<Answer>) => Promise<Late<Answer>> {
  let asked = "";
  let last: { readonly moment: string; readonly answer: Answer } | undefined;
  let finding: Promise<void> | undefined;
  let restUntilMs = 0;

  return async (what, moment, find) => {
    if (what !== asked) {
      asked = what;
      last = finding = undefined;
      restUntilMs = 0;
    }
    if (last?.moment === moment) return { answer: last.answer, isLate: false };
    if (finding === undefined && now() >= restUntilMs) {
      const fromMs = now();
      const own = find().then((answer) => {
        if (finding === own) last = { moment, answer };
      }).finally(() => {
        if (finding !== own) return;
        finding = undefined;
        restUntilMs = now() + restPerFind * (now() - fromMs);
      });
      finding = own;
      own.catch(() => {}); // whoever waits for it hears of it
    }
    let timer: ReturnType<typeof setTimeout> | undefined;
    const enough = new Promise<void>((resolve) => timer = setTimeout(resolve, last === undefined ? waitMs : 0));
    await Promise.race([finding ?? enough, enough]).finally(() => clearTimeout(timer));
    return last === undefined ? { isLate: true } : { answer: last.answer, isLate: last.moment !== moment };
  };
}
