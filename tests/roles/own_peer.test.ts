import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import process from "node:process";
import { expect, test } from "vitest";
import { isOwnPeer } from "../../src/roles/own_peer.ts";

const head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
const row = (local: string, remote: string, state: string, uid: number): string =>
  `   1: ${local} ${remote} ${state} 00000000:00000000 00:00000000 00000000  ${uid}        0 1234 1 0 20 4 30 10 -1\n`;
const peer = { remoteAddress: "127.0.0.1", remotePort: 0x1f90, localPort: 0x2382 };
const listed = (...rows: string[]) => (name: string): string => name === "tcp" ? head + rows.join("") : "";

test("a peer is ours when the system lists its end of the connection as that of our user, or of root", () => {
  const end = ["0100007F:1F90", "0100007F:2382"] as const;
  expect(isOwnPeer(peer, 1000, listed(row(...end, "01", 1000)))).toBe(true);
  expect(isOwnPeer(peer, 1000, listed(row(...end, "01", 0)))).toBe(true);
  expect(isOwnPeer(peer, 1000, listed(row(...end, "01", 1001)))).toBe(false);
  // Our own end is another row.
  expect(isOwnPeer(peer, 1000, listed(row(end[1], end[0], "01", 1000)))).toBe(false);
  expect(isOwnPeer(peer, 1000, listed(row(end[0], "0100007F:2383", "01", 1000)))).toBe(false);
});

test("a connection that its owner has closed, one that is not listed, and one of another machine are nobody's", () => {
  expect(isOwnPeer(peer, 1000, listed(row("0100007F:1F90", "0100007F:2382", "06", 0)))).toBe(false);
  expect(isOwnPeer(peer, 1000, listed())).toBe(false);
  const far = { ...peer, remoteAddress: "10.0.0.7" };
  expect(isOwnPeer(far, 1000, listed(row("0700000A:1F90", "0100007F:2382", "01", 1000)))).toBe(false);
  expect(isOwnPeer({ ...peer, remoteAddress: undefined }, 1000, listed())).toBe(false);
});

test.skipIf(process.platform !== "linux")(
  "a connection of this process is ours, over IPv4 and IPv6 sockets",
  async () => {
    for (const host of ["127.0.0.1", "::1"]) {
      const server = createServer();
      const listening = await new Promise<boolean>((resolve) => {
        server.once("error", () => resolve(false)); // a machine without IPv6
        server.listen(0, host, () => resolve(true));
      });
      if (!listening) continue;
      const accepted = new Promise<Socket>((resolve) => server.once("connection", resolve));
      const client = connect((server.address() as AddressInfo).port, host);
      const socket = await accepted;
      expect(isOwnPeer(socket)).toBe(true);
      expect(isOwnPeer(socket, process.getuid!() + 1)).toBe(process.getuid!() === 0);
      client.destroy();
      socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    }
  },
);
