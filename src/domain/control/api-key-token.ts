/**
 * API key tokens: `kp_<id>_<secret>`. The id is 16 characters (95 random bits), the secret 43 characters (over 250 bits) and a
 * checksum of 6, all of 0-9 A-Z a-z. The checksum lets scanners recognise a leaked key and lets us refuse typing errors without
 * asking a store. Secrets have full entropy, so a plain SHA-256 is what is stored.
 */
import { createHash, createHmac, randomBytes, timingSafeEqual } from "node:crypto"
import { crc32 } from "node:zlib"

const ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
const ID_LENGTH = 16
const SECRET_LENGTH = 43
const CHECKSUM_LENGTH = 6
const TOKEN = new RegExp(`^kp_([0-9A-Za-z]{${ID_LENGTH}})_[0-9A-Za-z]{${SECRET_LENGTH + CHECKSUM_LENGTH}}$`)

/** What begins every token. */
export const TOKEN_PREFIX = "kp_"

/** Makes tokens, and makes them again for a repeated call while this process lives. */
export interface TokenMinter {
  /** A fresh key id. */
  id(): string
  /** Fresh randomness for one token. */
  nonce(): Uint8Array
  /** The token of a key id and nonce: the same for the same two, unguessable from them without this process' memory. */
  token(id: string, nonce: Uint8Array): string
}

/**
 * A minter with a secret of its own that is never written anywhere. The nonce may therefore be stored with the answer of an
 * idempotent call: it shows the token again only here, and gives nothing away at rest.
 */
export function createTokenMinter(): TokenMinter {
  const secret = randomBytes(32)
  return {
    id: () => base62(randomBytes(32), ID_LENGTH),
    nonce: () => randomBytes(32),
    token(id, nonce) {
      const digest = createHmac("sha256", secret)
        .update("keelplane api key\0")
        .update(id)
        .update(nonce)
        .digest()
      const body = `${TOKEN_PREFIX}${id}_${base62(digest, SECRET_LENGTH)}`
      return body + checksum(body)
    },
  }
}

/** The key id in `token`, or undefined when it cannot be a token: wrong shape or checksum. */
export function parseToken(token: string): string | undefined {
  const id = TOKEN.exec(token)?.[1]
  if (id === undefined) return undefined
  const body = token.slice(0, -CHECKSUM_LENGTH)
  return token.slice(-CHECKSUM_LENGTH) === checksum(body) ? id : undefined
}

/** What is stored of a token. */
export function hashToken(token: string): Buffer {
  return createHash("sha256").update(token).digest()
}

/** Compares two hashes in constant time. */
export function sameHash(a: Uint8Array, b: Uint8Array): boolean {
  return a.byteLength === b.byteLength && timingSafeEqual(a, b)
}

/** The last `length` base-62 digits of the number in `bytes`. */
function base62(bytes: Uint8Array, length: number): string {
  let value = BigInt(`0x${Buffer.from(bytes).toString("hex")}`)
  let text = ""
  while (text.length < length) {
    text = ALPHABET.charAt(Number(value % 62n)) + text
    value /= 62n
  }
  return text
}

function checksum(body: string): string {
  const value = Buffer.alloc(4)
  value.writeUInt32BE(crc32(body))
  return base62(value, CHECKSUM_LENGTH)
}
