/** The bytes of blob number n: no two numbers have the same; every tenth is large. */
export const numbered = (n: number): Uint8Array =>
  Buffer.from(`blob number ${n}\n`.repeat(n % 10 === 0 ? 20_000 : 10 + (n % 300)));
