import { Fault } from "../domain/fault.ts";

/** This machine, as a browser on it may call it. */
const loopbackNames: readonly string[] = ["127.0.0.1", "localhost", "[::1]"];

/**
 * Refuses what a page of somebody else made a browser send: a `Host` that is not ours (a foreign name that was made to
 * lead here: DNS rebinding), or an `Origin` that is not ours. Programs send no `Origin`; pages of the cluster send its own.
 *
 * @param names hosts that are ours beside the loopback ones, without a port.
 * @throws {Fault} `ORIGIN_REFUSED`
 */
export function checkOrigin(
  headers: { readonly host?: string | undefined; readonly origin?: string | undefined },
  names: readonly string[] = [],
): void {
  const isOurs = (host: string): boolean => loopbackNames.includes(host) || names.includes(host);
  const own = split(headers.host ?? "");
  if (!isOurs(own.name)) {
    throw new Fault(
      "ORIGIN_REFUSED",
      `Cannot answer as the Host must be ${[...loopbackNames, ...names].join(" or ")}: current value is ${
        shown(headers.host)
      }`,
    );
  }
  if (headers.origin === undefined) return;
  const [, scheme, rest] = /^(https?):\/\/([^/]+)$/.exec(headers.origin.toLowerCase()) ?? [];
  const page = split(rest ?? "");
  if (scheme === undefined || !isOurs(page.name) || page.port !== own.port) {
    throw new Fault(
      "ORIGIN_REFUSED",
      `Cannot answer as the Origin must be the cluster's own, such as http://${headers.host}: current value is ${
        shown(headers.origin)
      }`,
    );
  }
}

function split(host: string): { readonly name: string; readonly port: string } {
  const [, name, port] = /^(\[[0-9a-f:.]+\]|[^:[\]]+)(?::([0-9]{1,5}))?$/.exec(host.toLowerCase()) ?? [];
  return { name: name ?? "", port: port ?? "80" };
}

const shown = (text: string | undefined): string => text === undefined ? "absent" : JSON.stringify(text.slice(0, 200));
