/** Files that hold private keys, by their names and first bytes. A key that was sent to a store cannot be taken back. */

const names = new Set([
  "id_rsa",
  "id_dsa",
  "id_ecdsa",
  "id_ecdsa_sk",
  "id_ed25519",
  "id_ed25519_sk",
  "id_xmss",
  ".ssh",
  ".gnupg",
]);

/** Whether what has this name, a file or a folder, is private whatever it holds. */
export const isPrivateName = (name: string): boolean => names.has(name) || /\.(p12|pfx)$/i.test(name);

/** Whether a file of this name is private when {@link isKeyText} says so of its beginning. */
export const isPrivateWhenKey = (name: string): boolean => /\.(pem|key|ppk)$/i.test(name);

/** @param start the first few KiB of a file. (PEM: RFC 7468; OpenSSH's and PuTTY's own forms.) */
export const isKeyText = (start: string): boolean =>
  /-----BEGIN [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----/.test(start) || start.startsWith("PuTTY-User-Key-File-");
