/** A PostgreSQL server, 15 to 18. */
import type pg from "pg"
import { type Clock, systemClock } from "../../domain/kernel/clock.ts"
import { DomainError } from "../../domain/kernel/errors.ts"
import { cancelStatement } from "./cancel.ts"
import { postgresCapabilities } from "./capabilities.ts"
import { addressOf, connectionConfig } from "./connection.ts"
import { createEngine, type SqlEngine } from "./engine.ts"
import { Pool } from "./pool.ts"
import { PooledDatabase } from "./pooled-database.ts"
import { Session, type SessionOptions } from "./session.ts"

/** A URL, or what gives the one that holds now. */
export type UrlSource = string | (() => Promise<string>)

/** How {@link openServer} connects. Times in milliseconds. */
export interface ServerOptions {
  /**
   * `postgres://user:password@host:port/database?sslmode=verify-full&sslrootcert=...`. Parts that are missing come from libpq's
   * environment (PGHOST, PGPASSFILE, ...). sslmode is disable (the default, unless a certificate is named), require, verify-ca or
   * verify-full, with libpq's meaning; sslcert, sslkey and sslpassword are the daemon's own certificate. A function is asked at
   * each new connection, so that a rotated password takes effect.
   */
  readonly url: UrlSource
  /** A login that owns the schema, when that of `url` must not. It may be the same. */
  readonly migrationUrl?: UrlSource | undefined
  /** Connections kept although idle. Default 0. */
  readonly min?: number
  /** Most connections. Default 10. */
  readonly max?: number
  /** Most calls that wait for a connection. Default 4096. */
  readonly maxWaiting?: number
  /** An idle connection is closed after this. Default 60 s. */
  readonly idleMs?: number
  /** A connection is replaced after this. Default 30 min. */
  readonly lifetimeMs?: number
  /** Longest wait for a free connection. Default 5 s. */
  readonly acquireMs?: number
  /** Longest time to connect. Default 5 s. */
  readonly connectMs?: number
  /**
   * `transaction` where the URL leads to a pooler in transaction mode (PgBouncer, RDS Proxy): nothing is then kept on a connection.
   * Migrations need `migrationUrl` with the server's own address. Default `none`.
   */
  readonly pooler?: "none" | "transaction"
  /**
   * Whether statements are prepared once per connection. Through a pooler this takes one that keeps track of them (PgBouncer 1.21
   * and later with max_prepared_statements). Default: `named`, and `unnamed` with `pooler: "transaction"`.
   */
  readonly prepare?: "named" | "unnamed"
  /** For the expiry of idempotency records. */
  readonly clock?: Clock
}

/** What sessions behind the address can rely on. */
function sessionOptions({ pooler, prepare, connectMs = 5_000 }: ServerOptions): SessionOptions {
  const stateless = pooler === "transaction"
  return {
    connectMs,
    role: "app",
    stateless,
    named: (prepare ?? (stateless ? "unnamed" : "named")) === "named",
  }
}

/**
 * Prepares a pool; connects on first use, so the server may be away at this time. Rejects with FAILED_PRECONDITION when the URL
 * cannot be used.
 */
export async function openServer(options: ServerOptions): Promise<SqlEngine> {
  const { url, connectMs = 5_000, pooler = "none" } = options
  const migrationUrl = options.migrationUrl ?? (pooler === "none" ? url : undefined)
  await Promise.all([url, migrationUrl ?? url].map(connectionFrom))
  const max = options.max ?? 10
  const session = sessionOptions(options)
  const pool = new Pool({
    connect: async () => Session.connect(await connectionFrom(url), session),
    min: options.min ?? 0,
    max,
    maxWaiting: options.maxWaiting ?? 4096,
    idleMs: options.idleMs ?? 60_000,
    lifetimeMs: options.lifetimeMs ?? 30 * 60_000,
    acquireMs: options.acquireMs ?? 5_000,
  })
  return createEngine({
    database: new PooledDatabase({
      pool,
      clock: options.clock ?? systemClock,
      cancel: async (busy) => cancelStatement(busy, addressOf(await connectionFrom(url))),
      serverTimeouts: true,
      stateless: session.stateless === true,
    }),
    pool,
    capabilities: postgresCapabilities(max),
    asOwner: async (work) => {
      if (migrationUrl === undefined) throw noMigrationUrl()
      const owner = await Session.connect(await connectionFrom(migrationUrl), { connectMs })
      try {
        return await work(owner)
      } finally {
        await owner.close()
      }
    },
    onClose: async () => {},
  })
}

async function connectionFrom(url: UrlSource): Promise<pg.ClientConfig> {
  return connectionConfig(typeof url === "string" ? url : await url())
}

/** Migrations hold a lock from one transaction to the next, which a pooler would leave with another daemon's connection. */
function noMigrationUrl(): DomainError {
  return new DomainError(
    "FAILED_PRECONDITION",
    "migrations cannot run through a pooler in transaction mode; give the migration URL of the server itself",
    { metadata: { store: "postgres" } },
  )
}
