/** Milvus: vectors of collections that live there. */
import { milvusServerTool } from "../../test/engines/milvus-install.ts"
import { joinMilvus, leaveMilvus } from "../../test/engines/milvus-server.ts"
import { pathOf } from "../../test/support/tools.ts"
import type { Engine } from "./engine.ts"
import { prepareVectors, vectorWorks } from "./records.ts"

/** See the file's comment. */
export const milvus: Engine = {
  name: "milvus",
  bare: "milvus",
  async start() {
    const given = process.env.KEELPLANE_TEST_MILVUS_URL
    const url = given ?? (await joinMilvus(pathOf(await milvusServerTool())))
    return {
      url,
      env: { KEELPLANE_STORES__VECTORS__URL: url },
      prepare: (channel) => prepareVectors(channel, "direct"),
      works: vectorWorks(true),
      stop: async () => {
        if (given === undefined) await leaveMilvus()
      },
    }
  },
}
