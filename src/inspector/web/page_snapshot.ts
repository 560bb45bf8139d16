import type { TreeDiff, TreeNode, TreePage } from "../routes.ts";
import { ask, inspect } from "./data.ts";
import { download } from "./deeds.ts";
import { type Child, h } from "./dom.ts";
import { empty, formValues, go, link, section, table } from "./parts.ts";
import { linkTo, type Place } from "./place.ts";
import type { Page, Shown } from "./shown.ts";
import { bytesText, count, counted } from "./words.ts";

const digestPattern = /^[0-9a-f]{64}\/[0-9]+/;

/** `HASH/SIZE/PATH`: a file tree, and how it differs from another one. Without: those that have names. */
export const snapshotPage: Page = async (place) => {
  const { subject, query } = place;
  const against = query.get("against") ?? "";
  const digest = digestPattern.exec(subject)?.[0];
  const { last } = await inspect("bounds", {});
  const common = { moment: last, watch: [] };
  if (digest === undefined) return { ...common, ...await names() };
  const path = decodeURIComponent(subject.slice(digest.length + 1));
  if (digestPattern.test(against)) return { ...common, ...await difference(digest, against, place) };
  return { ...common, ...await tree(digest, path, place) };
};

type Part = Pick<Shown, "title" | "content">;

const short = (digest: string): string => `${digest.slice(0, 10)}…`;
/** Names may have any characters. */
const subjectOf = (digest: string, path: string): string =>
  `${digest}${path === "" ? "" : `/${path.split("/").map(encodeURIComponent).join("/")}`}`;
const pathLink = (digest: string, path: string): string => linkTo("snapshot", subjectOf(digest, path));

async function names(): Promise<Part> {
  const found = await ask<{ names: readonly { name: string; value: string }[] }>("/v1/names", { limit: 500 });
  return {
    title: "Snapshots",
    content: [
      h("div", { class: "head" }, h("h1", {}, "Snapshots")),
      h(
        "form",
        {
          class: "bar",
          submit: (event: Event) => go(linkTo("snapshot", formValues(event)["digest"])),
        },
        h(
          "label",
          { class: "wide" },
          "Digest ",
          h("input", {
            name: "digest",
            required: true,
            pattern: "[0-9a-f]{64}/[0-9]+",
            title: "SHA-256 in lower-case hex, a slash, and the size in bytes",
            placeholder: "e3b0c442…/0",
          }),
        ),
        h("button", {}, "Open"),
      ),
      found.names.length === 0
        ? empty(
          "No snapshot has a name.",
          "A task's page leads to what it took and made. To name one: ",
          h("code", {}, "scoot-actors snapshot name NAME DIGEST"),
        )
        : table(
          "Named snapshots",
          ["Name", "Snapshot"],
          found.names.map(({ name, value }) => [
            link(pathLink(value, ""), name),
            h("code", { class: "id" }, value),
          ]),
        ),
    ],
  };
}

const head = (digest: string, path: string, ...buttons: readonly Child[]): HTMLElement =>
  h(
    "div",
    { class: "head" },
    h(
      "h1",
      { class: "path" },
      link(pathLink(digest, ""), h("code", { title: digest }, short(digest))),
      path.split("/").filter((part) => part !== "").map((part, place, all) => [
        h("span", { class: "faint" }, " / "),
        place === all.length - 1 ? part : link(pathLink(digest, all.slice(0, place + 1).join("/")), part),
      ]),
    ),
    h("div", { class: "buttons" }, buttons),
  );

async function tree(digest: string, path: string, { query }: Place): Promise<Part> {
  const found = await inspect("tree", { snapshot: digest, path, from: Number(query.get("from") ?? 0) });
  const title = `${path || "Snapshot"} of ${short(digest)}`;
  if (found.kind !== "directory") return { title, content: [...fileView(digest, path, found)] };
  const row = (entry: TreeNode): readonly Child[] => {
    const inner = path === "" ? entry.name : `${path}/${entry.name}`;
    const name = link(pathLink(digest, inner), entry.name, entry.kind === "directory" && "/");
    return [
      h("span", { class: `node-kind is-${entry.kind}` }, name),
      entry.kind === "symlink"
        ? ["→ ", h("code", {}, entry.target)]
        : entry.kind === "file" && entry.executable
        ? "runs"
        : "",
      entry.bytes === undefined ? "" : bytesText(entry.bytes),
    ];
  };
  return {
    title,
    content: [
      head(digest, path, h("button", { click: () => void navigator.clipboard?.writeText(digest) }, "Copy digest")),
      h(
        "form",
        {
          class: "bar",
          submit: (event: Event) => go(linkTo("snapshot", digest, { query: formValues(event) })),
        },
        h(
          "label",
          { class: "wide" },
          "Against ",
          h("input", {
            name: "against",
            required: true,
            pattern: "[0-9a-f]{64}/[0-9]+",
            title: "SHA-256 in lower-case hex, a slash, and the size in bytes",
            placeholder: "the digest of another snapshot",
          }),
        ),
        h("button", {}, "Show what differs"),
      ),
      table("Entries", ["Name", "Kind", "Size"], found.entries.map(row), "It is empty."),
      found.next !== undefined &&
      h(
        "p",
        { class: "more" },
        link(linkTo("snapshot", subjectOf(digest, path), { query: { from: String(found.next) } }), "More entries"),
      ),
    ],
  };
}

function* fileView(digest: string, path: string, found: Exclude<TreePage, { kind: "directory" }>): Generator<Child> {
  if (found.kind === "symlink") {
    yield head(digest, path);
    yield h("p", {}, "A symlink to ", h("code", {}, found.target), ". It is not followed.");
    return;
  }
  const name = path.split("/").at(-1)!;
  yield head(
    digest,
    path,
    h("span", { class: "faint" }, bytesText(found.bytes), found.executable && ", runs"),
    h("button", {
      click: () => void download(`/v1/snapshots/${digest}/${path.split("/").map(encodeURIComponent).join("/")}`, name),
    }, "Download"),
  );
  if (found.text === undefined) yield empty("It is no text.", `${count(found.bytes)} bytes.`);
  else {
    yield h("pre", { class: "card file", tabindex: 0, "aria-label": name }, found.text);
    if (found.text.length < found.bytes && found.bytes > 262_144) {
      yield h("p", { class: "faint" }, "That is its beginning; download it for all of it.");
    }
  }
}

async function difference(digest: string, against: string, { query }: Place): Promise<Part> {
  const from = Number(query.get("from") ?? 0);
  const found = await inspect("diff", { before: against, after: digest, from });
  const kinds = { added: 0, removed: 0, changed: 0 };
  for (const one of found.changes) kinds[changeOf(one)]++;
  return {
    title: `${short(digest)} against ${short(against)}`,
    content: [
      h(
        "div",
        { class: "head" },
        h(
          "h1",
          {},
          link(pathLink(digest, ""), h("code", { title: digest }, short(digest))),
          " against ",
          link(pathLink(against, ""), h("code", { title: against }, short(against))),
        ),
        h(
          "span",
          { class: "faint" },
          counted(found.changes.length, "difference"),
          found.next === undefined ? "" : " on this page",
          found.changes.length === 0
            ? ""
            : `: ${
              Object.entries(kinds).filter(([, one]) => one > 0).map(([kind, one]) => `${one} ${kind}`).join(", ")
            }`,
        ),
        h(
          "div",
          { class: "buttons" },
          h(
            "a",
            { class: "button", href: linkTo("snapshot", against, { query: { against: digest } }) },
            "The other way round",
          ),
        ),
      ),
      section(
        "changes",
        "What differs",
        table(
          "Differences",
          ["Change", "Path", "Before", "After"],
          found.changes.map((one) => [
            badgeOf(changeOf(one)),
            link(pathLink(one.after === undefined ? against : digest, one.path), one.path),
            one.before === undefined ? "" : link(pathLink(against, one.path), said(one.before)),
            one.after === undefined ? "" : link(pathLink(digest, one.path), said(one.after)),
          ]),
          "They are the same.",
        ),
        found.next !== undefined &&
          h(
            "p",
            { class: "more" },
            link(linkTo("snapshot", digest, { query: { against, from: String(found.next) } }), "More differences"),
          ),
      ),
    ],
  };
}

const changeOf = ({ before, after }: TreeDiff["changes"][number]): "added" | "removed" | "changed" =>
  before === undefined ? "added" : after === undefined ? "removed" : "changed";
const badgeOf = (change: string): HTMLElement => h("span", { class: `badge is-${change}` }, change);
const said = (node: TreeNode): string =>
  node.kind === "symlink"
    ? `→ ${node.target}`
    : node.kind === "directory"
    ? "a directory"
    : `${node.bytes === undefined ? "a file" : bytesText(node.bytes)}${node.executable ? ", runs" : ""}`;
