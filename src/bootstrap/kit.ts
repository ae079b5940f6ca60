import type { Config } from "../config/schema.ts"
import type { Clock } from "../domain/kernel/clock.ts"
import type { Logger } from "../domain/kernel/logger.ts"
import type { Operations } from "../domain/kernel/operations.ts"
import type { CallScope } from "../domain/kernel/scope.ts"
import type { Service } from "../rpc/handler.ts"
import type { Pages } from "../services/paging.ts"
import type { SqlEngine } from "../stores/postgres/index.ts"
import type { SqlStoreName } from "./engines.ts"
import type { Sweeper } from "./sweepers.ts"

/** What the planes are built from. */
export interface Kit {
  readonly config: Config
  readonly logger: Logger
  readonly clock: Clock
  readonly pages: Pages
  /** The engine behind a store. */
  sql(store: SqlStoreName): SqlEngine
  /** Puts deadline, breaker, span and metrics around a port of a store that is not inside this thread. `name` is the port's in them. */
  guard<P extends object>(store: SqlStoreName, name: string, port: P, operations: Operations<P>): P
  /** Puts span and metrics around a port of an engine inside this thread; what returns at once still does. */
  observe<P extends object>(store: string, name: string, port: P, operations: Operations<P>): P
}

/** An engine that only one plane uses, for AdminService and the metrics. */
export interface PlaneEngine {
  readonly name: string
  readonly engine: string
  readonly capabilities: Readonly<Record<string, string>>
  /** Resolves when the engine answers. */
  ping(scope: CallScope): Promise<void>
  /** What it holds, where it is inside this process. */
  usage?(): { readonly bytes: number; readonly entries: number }
}

/** A part of the daemon. */
export interface Plane {
  /** Its own engine; planes on the SQL stores have none. */
  readonly engine?: PlaneEngine
  readonly services: readonly Service[]
  /** Stores without which its services cannot serve. */
  readonly needs: readonly SqlStoreName[]
  readonly sweepers: readonly Sweeper[]
  /** Ends what the plane itself holds; engines are closed afterwards. */
  close(): Promise<void>
}
