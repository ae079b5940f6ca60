/** The Memory suites on collections with copies in Milvus. */
import { milvusStandalone } from "../engines/milvus.ts"
import { milvusSuites } from "../engines/milvus-suites.ts"

milvusSuites(milvusStandalone, "MIRRORED")
