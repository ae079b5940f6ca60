/** Redis or Valkey: the cache plane. */
import { launchRedis, serverTool } from "../../test/support/redis-server.ts"
import { pathOf } from "../../test/support/tools.ts"
import { cases, prepareCache } from "../cases.ts"
import { PEER_WORKS } from "./daprd.ts"
import { BATCHED, type Engine, UNARY, type Work } from "./engine.ts"

function work(name: string, bare: string, targets: Work["targets"]): Work {
  const found = cases().find((each) => each.name.startsWith(name))
  if (found === undefined) throw new RangeError(`no case ${name}`)
  return { ...found, bare, inFlight: [64, 1], targets }
}

/** See the file's comment. */
export const redis: Engine = {
  name: "redis",
  bare: "redis",
  adapter: "redis-adapter",
  async start() {
    const given = process.env.KEELPLANE_TEST_REDIS_URL
    const server = given === undefined ? await launchRedis(pathOf(await serverTool())) : undefined
    const url = server?.url ?? given ?? ""
    return {
      url,
      env: { KEELPLANE_STORES__CACHE__URL: url },
      prepare: prepareCache,
      works: [
        { ...work("CacheService.Get", "get", UNARY), daprd: PEER_WORKS.get },
        { ...work("CacheService.Set", "set", UNARY), daprd: PEER_WORKS.set },
        work("CacheService.BatchGet", "batchGet", BATCHED),
      ],
      stop: async () => await server?.stop(),
    }
  },
}
