/** Which of a cluster's 16,384 slots a key lies in: CRC-16 (XMODEM) of its hash tag, or of all of it where there is none. */

/** How many slots a cluster has. */
export const SLOTS = 16_384

const TABLE = Uint16Array.from({ length: 256 }, (_, byte) => {
  let value = byte << 8
  for (let bit = 0; bit < 8; bit++) value = ((value << 1) ^ (value & 0x8000 ? 0x1021 : 0)) & 0xffff
  return value
})

/** CRC-16 of a text's bytes. */
export function crc16(text: string): number {
  let sum = 0
  for (const byte of Buffer.from(text, "utf8")) {
    sum = ((sum << 8) ^ (TABLE[((sum >> 8) ^ byte) & 0xff] ?? 0)) & 0xffff
  }
  return sum
}

/** What a key has between its first `{` and the next `}`; undefined where that is nothing. */
export function hashTag(key: string): string | undefined {
  const open = key.indexOf("{")
  const close = open < 0 ? -1 : key.indexOf("}", open + 1)
  return close > open + 1 ? key.slice(open + 1, close) : undefined
}

/** A key's slot. */
export function slotOf(key: string): number {
  return crc16(hashTag(key) ?? key) % SLOTS
}
