/** Where one is: a page and a moment. All of it is in the address, so that a link leads to the same again. */
export interface Place {
  /** "jobs", "job", "actor", … */
  readonly page: string;
  /** What follows: "job/j01…" of the page "actor". */
  readonly subject: string;
  readonly query: URLSearchParams;
  /** The entry; undefined: now, and following it. */
  readonly at: number | undefined;
}

export function placeOf(hash: string): Place {
  const [path = "", search = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const slash = path.indexOf("/");
  const query = new URLSearchParams(search);
  const at = query.get("at");
  query.delete("at");
  return {
    page: (slash < 0 ? path : path.slice(0, slash)) || "jobs",
    subject: slash < 0 ? "" : path.slice(slash + 1),
    query,
    at: at !== null && /^[0-9]{1,15}$/.test(at) ? Number(at) : undefined,
  };
}

/** Values that are empty are left out. */
export function linkTo(
  page: string,
  subject = "",
  { at, query = {} }: {
    readonly at?: number | undefined;
    readonly query?: Readonly<Record<string, string | undefined>>;
  } = {},
): string {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value !== undefined && value !== "") search.set(name, value);
  if (at !== undefined) search.set("at", String(at));
  const text = search.toString();
  return `#/${page}${subject === "" ? "" : `/${subject}`}${text === "" ? "" : `?${text}`}`;
}
