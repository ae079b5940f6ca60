/** Milvus: vectors of collections that live there. */
import { milvusServerTool } from "../../test/engines/milvus-install.ts"
import { leaseMilvus } from "../../test/engines/milvus-server.ts"
import { pathOf } from "../../test/support/tools.ts"
import type { Engine } from "./engine.ts"
import { prepareVectors, vectorWorks } from "./records.ts"

/** See the file's comment. */
export const milvus: Engine = {
  name: "milvus",
  bare: "milvus",
  async start() {
    const given = process.env.KEELPLANE_TEST_MILVUS_URL
    const lease = given === undefined ? await leaseMilvus(pathOf(await milvusServerTool())) : undefined
    const url = given ?? lease?.address ?? ""
    return {
      url,
      env: { KEELPLANE_STORES__VECTORS__URL: url },
      prepare: (channel) => prepareVectors(channel, "direct"),
      works: vectorWorks(true),
      stop: async () => {
        lease?.end()
      },
    }
  },
}
