/** The Memory suites on collections that live in Milvus alone. */
import { milvusStandalone } from "../engines/milvus.ts"
import { milvusSuites } from "../engines/milvus-suites.ts"

milvusSuites(milvusStandalone, "DIRECT")
