/** Vectors on Milvus, as bootstrap takes them. */
import type { TenantEraser } from "../../domain/control/erasure.ts"
import { type Clock, systemClock } from "../../domain/kernel/clock.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { VectorStore } from "../../domain/memory/vector-store.ts"
import { parseAddress } from "./address.ts"
import { Connection, type PasswordSource } from "./connection.ts"
import type { ServerFeatures } from "./features.ts"
import { type Isolation, Places } from "./places.ts"
import { MilvusVectorStore } from "./vector-store.ts"

/** What bootstrap decides. */
export interface MilvusOptions {
  /** `milvus://user:password@host:19530/database?tls=true&ca=/path`. */
  readonly url: string
  /** Asked for the password at each new connection, also after the server has refused the one before; takes the place of the URL's. */
  readonly password?: PasswordSource | undefined
  /** Whether collections of one shape share a collection of the server. Default `shared`. */
  readonly isolation?: Isolation
  /** What the names of the server's collections begin with: letters, digits, underscores. Default `keelplane`. */
  readonly prefix?: string
  /** Says when records expire; for tests. */
  readonly clock?: Clock
}

/** An open engine. Open does not mean that the server answers. */
export interface MilvusEngine {
  readonly vectors: VectorStore
  /** What the server can; undefined until it has answered for the first time. */
  features(): ServerFeatures | undefined
  /** Asks the server. Raises STORE_UNAVAILABLE, STORE_AUTH or DEADLINE_EXCEEDED. */
  ping(scope: CallScope): Promise<void>
  /** Proves that the daemon's user may use the database. Raises STORE_AUTH or FAILED_PRECONDITION besides. */
  verify(scope: CallScope): Promise<void>
  /** How many calls wait for an answer. */
  stats(): { readonly waiting: number }
  /** Removes a tenant's records. `store`: what the removal is said to be of. */
  eraser(store: string): TenantEraser
  /** Takes away everything on the server whose name begins with the prefix; for tests and for those who leave. */
  reset(scope: CallScope): Promise<void>
  /** Ends everything. */
  close(): Promise<void>
}

/** Opens the engine without asking the server. Raises TypeError for a URL that is none. */
export function openMilvus(options: MilvusOptions): MilvusEngine {
  const connection = new Connection(parseAddress(options.url), options.password)
  const places = new Places(connection, options.prefix ?? "keelplane", options.isolation ?? "shared")
  const vectors = new MilvusVectorStore(connection, places, options.clock ?? systemClock)
  return {
    vectors,
    features: () => connection.features,
    ping: async (scope) => {
      await connection.call(scope, "read", (client) => client.getVersion())
    },
    verify: async (scope) => {
      await places.all(scope)
    },
    stats: () => ({ waiting: connection.waiting }),
    eraser: (store) => ({
      store,
      holds: async (scope) => (await vectors.countTenant(scope)) > 0,
      erase: async (scope) => [{ store, what: "vectors", count: await vectors.eraseTenant(scope) }],
    }),
    reset: async (scope) => {
      for (const collection of await places.all(scope)) await places.dropCollection(scope, collection)
    },
    close: () => connection.close(),
  }
}
