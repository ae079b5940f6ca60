/**
 * A process that dies in its first start: opens the data directory argv[2] from the template argv[3] and kills itself, as
 * SIGKILL would, before the file operation number argv[5] of the kind argv[4].
 */
import promises from "node:fs/promises"
import { syncBuiltinESMExports } from "node:module"
import { pathToFileURL } from "node:url"

const [, , dataDir, template, kind, count] = process.argv
if (dataDir === undefined || template === undefined || (kind !== "writeFile" && kind !== "open"))
  throw new Error("usage: cluster-opener DIR TEMPLATE writeFile|open COUNT")

let left = Number(count)
/** Counts what happens to the database's own files. */
function dying<A extends unknown[], R>(operation: (...args: A) => R): (...args: A) => R {
  return (...args) => {
    if (String(args[0]).startsWith(`${dataDir}/postgres/`) && left-- === 0)
      process.kill(process.pid, "SIGKILL")
    return operation(...args)
  }
}
if (kind === "writeFile") promises.writeFile = dying(promises.writeFile)
else promises.open = dying(promises.open)
syncBuiltinESMExports()

const { openEmbedded } = await import("../../src/stores/postgres/index.ts")
const engine = await openEmbedded({ dataDir, clusterTemplate: pathToFileURL(template) })
await engine.close()
