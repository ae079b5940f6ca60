import type { Config } from "../config/schema.ts"
import type { TenantEraser } from "../domain/control/erasure.ts"
import type { Clock } from "../domain/kernel/clock.ts"
import type { Logger } from "../domain/kernel/logger.ts"
import type { Operations } from "../domain/kernel/operations.ts"
import type { Service } from "../rpc/handler.ts"
import type { Pages } from "../services/paging.ts"
import type { SqlEngine } from "../stores/postgres/index.ts"
import type { EngineHandle, StoreName } from "./engines/engine.ts"
import type { Outbox } from "./outboxes.ts"
import type { Sweeper } from "./sweepers.ts"

/** What the planes are built from. Engines are open then, but need not answer yet. */
export interface Kit {
  readonly config: Config
  readonly logger: Logger
  readonly clock: Clock
  readonly pages: Pages
  /** The engine behind a store; undefined for `vectors` where there is none. */
  handle(store: StoreName): EngineHandle | undefined
  /** The SQL engine behind a store that cannot have another kind. */
  sql(store: StoreName): SqlEngine
  /** The outbox of a store that is an SQL database. */
  outbox(store: StoreName): Outbox
  /** What every engine offers for the end of a tenant. */
  readonly tenantErasers: readonly TenantEraser[]
  /** Has `work` done once the store's schema is there and before it serves its first call. */
  before(store: StoreName, work: () => Promise<void>): void
  /**
   * Puts around a port of a store what every call needs: the gate until it is usable, deadline, breaker, span and metrics. An
   * engine inside this thread gets span and metrics only; what returns at once still does. `name` is the port's in them.
   */
  guard<P extends object>(store: StoreName, name: string, port: P, operations: Operations<P>): P
}

/** A part of the daemon. */
export interface Plane {
  readonly services: readonly Service[]
  /** Stores without which its services cannot serve. */
  readonly needs: readonly StoreName[]
  readonly sweepers: readonly Sweeper[]
  /** Ends what the plane itself holds; engines are closed afterwards. */
  close(): Promise<void>
}
