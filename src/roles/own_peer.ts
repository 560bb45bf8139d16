import { readFileSync } from "node:fs";
import { isIPv4 } from "node:net";
import type { Socket } from "node:net";
import process from "node:process";

/** What a connection is found by in the system's list. */
export interface Ends {
  readonly remoteAddress?: string | undefined;
  readonly remotePort?: number | undefined;
  readonly localPort?: number | undefined;
}

const established = "01";

/**
 * Whether at the other end is a process of this machine whose user is ours, or root: who has that may do as we do anyway.
 * Linux tells by its list of connections; elsewhere, and for peers behind another network namespace, the answer is no.
 *
 * @param list reads `/proc/net/NAME` (proc_pid_net(5)).
 */
export function isOwnPeer(socket: Ends | Socket, uid = process.getuid?.(), list = readList): boolean {
  const { remoteAddress, remotePort, localPort } = socket;
  if (remoteAddress === undefined || remotePort === undefined || localPort === undefined || uid === undefined) {
    return false;
  }
  const v4 = remoteAddress.startsWith("::ffff:") ? remoteAddress.slice(7) : remoteAddress;
  const wanted = isIPv4(v4)
    ? v4.startsWith("127.") ? [["tcp", hexOf4(v4)], ["tcp6", `0000000000000000FFFF0000${hexOf4(v4)}`]] as const : []
    : v4 === "::1"
    ? [["tcp6", "00000000000000000000000001000000"]] as const
    : [];
  for (const [name, address] of wanted) {
    const from = `${address}:${hexOfPort(remotePort)}`;
    const to = `:${hexOfPort(localPort)}`;
    for (const line of list(name).split("\n")) {
      // sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid …
      const [, local, remote, state, , , , owner] = line.trim().split(/\s+/);
      // In other states a connection has lost its owner, and is listed as root's.
      if (local !== from || state !== established || remote?.endsWith(to) !== true) continue;
      return owner === "0" || Number(owner) === uid;
    }
  }
  return false;
}

function readList(name: string): string {
  try {
    return readFileSync(`/proc/net/${name}`, "latin1");
  } catch {
    return "";
  }
}

/** The list has addresses as the processor has numbers: of the little-endian ones that we run on, backwards. */
const hexOf4 = (address: string): string =>
  address.split(".").reverse().map((part) => Number(part).toString(16).padStart(2, "0")).join("").toUpperCase();
const hexOfPort = (port: number): string => port.toString(16).toUpperCase().padStart(4, "0");
