/**
 * Keeps one Milvus for all test files of a machine.
 *
 * Usage: node milvus-keeper.ts SOCKET FOLDER
 */
import { keep } from "./keeper.ts"
import { startMilvus } from "./milvus-server.ts"

const [, , name = "", tool = ""] = process.argv
keep(name, () => startMilvus(tool))
