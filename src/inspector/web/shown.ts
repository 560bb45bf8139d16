import type { Moment } from "../moments.ts";
import type { Child } from "./dom.ts";
import type { Place } from "./place.ts";

/** What a page shows, and the moment that it shows. */
export interface Shown {
  readonly title: string;
  readonly content: readonly Child[];
  readonly moment: Moment;
  /** Addresses, and beginnings of addresses ending in "/", whose news it shows; none: it brings itself up to date. */
  readonly watch: readonly string[];
  /** More of it comes: it is asked again. */
  readonly isPart?: boolean;
  /** Entries at which the subject changed, on both sides of the moment. */
  readonly previousSeq?: number | undefined;
  readonly nextSeq?: number | undefined;
  /** Its state: said aloud when it becomes another while one looks at it. */
  readonly says?: string;
}

/** @param signal the reader has gone elsewhere. */
export type Page = (place: Place, signal: AbortSignal) => Promise<Shown>;
