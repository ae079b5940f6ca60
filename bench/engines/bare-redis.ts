/** GET, SET and MGET by ioredis. */
import { Redis } from "ioredis"
import { BATCH } from "../cases.ts"
import type { OpenBare } from "./bare.ts"

const KEYS = 1_000
const key = (index: number) => `key-${index % KEYS}`

/** See the file's comment. */
export const open: OpenBare = async (url) => {
  const client = new Redis(url, { enableAutoPipelining: true, keyPrefix: "bare:" })
  const value = Buffer.alloc(128, 7)
  for (let index = 0; index < KEYS; index++) await client.set(key(index), value)
  return {
    get: (index) => client.getBuffer(key(index)),
    set: (index) => client.set(key(index), value),
    batchGet: (index) =>
      client.mgetBuffer(Array.from({ length: BATCH }, (_, each) => key(index * BATCH + each))),
  }
}
