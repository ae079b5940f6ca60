/** The Memory suites on collections that live in Milvus Lite. */
import { milvusLite } from "../engines/milvus.ts"
import { milvusSuites } from "../engines/milvus-suites.ts"

milvusSuites(milvusLite, "DIRECT")
