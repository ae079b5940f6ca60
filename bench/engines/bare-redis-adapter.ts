/** The cache store's adapter without the daemon around it, which tells its share from that of gRPC. */
import { Namespaces } from "../../src/domain/cache/namespaces.ts"
import { DEFAULT_TENANT, systemScope } from "../../src/domain/kernel/scope.ts"
import { openRedis } from "../../src/stores/redis/index.ts"
import { BATCH } from "../cases.ts"
import type { OpenBare } from "./bare.ts"

const KEYS = 1_000
const key = (index: number) => `key-${index % KEYS}`

/** See the file's comment. */
export const open: OpenBare = async (url) => {
  const { cache } = await openRedis({ url, prefix: "bench" })
  const namespace = new Namespaces().resolve("")
  const scope = systemScope(DEFAULT_TENANT)
  const content = { case: "data", value: Buffer.alloc(128, 7) } as const
  const set = async (index: number) => {
    return await cache.write(scope, {
      kind: "set",
      namespace,
      key: key(index),
      content,
      contentType: "",
      expiration: undefined,
      keepExpiration: false,
      condition: "always",
      ifRevision: undefined,
      tags: [],
    })
  }
  for (let index = 0; index < KEYS; index++) await set(index)
  return {
    get: async (index) => await cache.get(scope, namespace, key(index)),
    set,
    batchGet: async (index) => {
      const keys = Array.from({ length: BATCH }, (_, each) => key(index * BATCH + each))
      return await cache.batchGet(scope, namespace, keys)
    },
  }
}
