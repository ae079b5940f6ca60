/** What bootstrap gets: a keyspace with its life around it. */
import type cassandra from "cassandra-driver"
import type { JobLife } from "../../domain/event/job-history.ts"
import { DomainError } from "../../domain/kernel/errors.ts"
import { pause } from "../../domain/kernel/pause.ts"
import { type CallScope, systemScope } from "../../domain/kernel/scope.ts"
import { type CassandraCapabilities, cassandraCapabilities } from "./capabilities.ts"
import { type ClientSettings, connectClient, type PasswordSource } from "./client.ts"
import { Connection } from "./connection.ts"
import type { Cluster } from "./database.ts"
import { toDomainError } from "./errors.ts"
import { Flight } from "./flight.ts"
import { ensureJobTables } from "./job-tables.ts"
import { ensureKeyspace } from "./keyspace.ts"
import {
  listMigrations,
  type MigrateOptions,
  type MigrationFile,
  type MigrationStatus,
  migrate,
  readMigrations,
} from "./migrate.ts"
import { type Consistency, DEFAULT_CONSISTENCY, Session } from "./session.ts"
import { parseClusterUrl } from "./url.ts"

/** How {@link openCassandra} connects. Times in milliseconds. */
export interface CassandraOptions {
  /** `cassandra://user:password@h1:9042,h2:9042/keyspace?dc=datacenter1&replication=3&tls=true&ca_file=...`; `scylla://` too. */
  readonly url: string
  /** Asked for the password at each new connection; takes the place of the URL's. */
  readonly password?: PasswordSource | undefined
  /** Longest time to connect. Default 5 s. */
  readonly connectMs?: number | undefined
  /** Longest wait for an answer where no deadline is nearer. Default 10 s. */
  readonly timeoutMs?: number | undefined
  /** After how long a read is asked of a second node, too; 0: never. Default 250 ms. */
  readonly speculativeMs?: number | undefined
  /** Most requests that are out at the same time. Default 1024. */
  readonly maxInFlight?: number | undefined
  /** Most calls that wait for one of them to come back. Default 4096. */
  readonly maxWaiting?: number | undefined
  /** Default: LOCAL_QUORUM, and LOCAL_SERIAL for conditions. */
  readonly consistency?: Partial<Consistency> | undefined
  /** What the job history is to keep for how long; its tables are made and changed with the schema. Default: they stay as they are. */
  readonly jobLives?: readonly JobLife[] | undefined
  /** Where the migrations lie; for tests. */
  readonly migrations?: URL | undefined
}

/** Connections and requests. */
export interface CassandraStats {
  readonly connected: boolean
  /** Requests that are out. */
  readonly inUse: number
  /** Open connections that have none of them. */
  readonly idle: number
  /** Calls that wait for their turn. */
  readonly waiting: number
}

/** An open keyspace. Call {@link CassandraEngine.migrate} before anything uses {@link CassandraEngine.session}. */
export interface CassandraEngine {
  readonly session: Cluster
  readonly capabilities: CassandraCapabilities
  /** Makes the keyspace where it may, and brings its schema up to date; rejects with SCHEMA_MISMATCH. */
  migrate(options?: MigrateOptions): Promise<readonly MigrationFile[]>
  /** All migrations with the time they were applied; rejects with SCHEMA_MISMATCH. */
  listMigrations(): Promise<readonly MigrationStatus[]>
  /** One round trip to the store. Rejects with DomainError. */
  ping(scope: CallScope): Promise<void>
  stats(): CassandraStats
  /** Ends all connections after the work in flight. */
  close(): Promise<void>
}

const LISTED_MS = 10_000
const LISTED_PAUSE_MS = 100
const DEFAULT_CONNECT_MS = 5_000
const DEFAULT_TIMEOUT_MS = 10_000
const DEFAULT_SPECULATIVE_MS = 250
const DEFAULT_IN_FLIGHT = 1_024
const DEFAULT_WAITING = 4_096

/**
 * Opens a keyspace. Connects in the background, so the cluster may be away or come up later: calls reject with
 * STORE_UNAVAILABLE until it is there. Throws INVALID_FIELD where the URL is none.
 */
export function openCassandra(options: CassandraOptions): CassandraEngine {
  const address = parseClusterUrl(options.url)
  const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS
  const maxInFlight = options.maxInFlight ?? DEFAULT_IN_FLIGHT
  const settings: ClientSettings = {
    address,
    password: options.password,
    connectMs: options.connectMs ?? DEFAULT_CONNECT_MS,
    timeoutMs,
    speculativeMs: options.speculativeMs ?? DEFAULT_SPECULATIVE_MS,
  }
  const connection = new Connection(settings, address.keyspace)
  const flight = new Flight(maxInFlight, options.maxWaiting ?? DEFAULT_WAITING)
  const consistency = { ...DEFAULT_CONSISTENCY, ...options.consistency }
  const session = new Session(connection, flight, { consistency, timeoutMs })
  connection.start()
  const scope = systemScope()
  const inKeyspace = async <T>(work: (client: cassandra.Client) => Promise<T>): Promise<T> => {
    try {
      return await work(await connection.client(scope))
    } catch (error) {
      throw toDomainError(error, "read", scope)
    }
  }
  return {
    session,
    capabilities: cassandraCapabilities(maxInFlight),
    migrate: async (how = {}) => {
      const files = await readMigrations(options.migrations)
      if (!(await withKeyspace(settings, how.dryRun ?? false))) return files
      return onceListed(async () => {
        await connection.reconnect(scope)
        return inKeyspace(async (client) => {
          const applied = await migrate(client, files, how)
          if (how.dryRun !== true) await ensureJobTables(client, options.jobLives ?? [])
          return applied
        })
      })
    },
    listMigrations: () =>
      inKeyspace(async (client) => listMigrations(client, await readMigrations(options.migrations))),
    ping: async (call) => {
      await session.read(call, { cql: "select key from system.local where key = 'local'" })
    },
    stats: () => {
      const { open } = connection.counts()
      return {
        connected: connection.connected,
        inUse: flight.out,
        idle: Math.max(0, open - flight.out),
        waiting: flight.waiting,
      }
    },
    close: async () => {
      await flight.empty(timeoutMs)
      await connection.close()
    },
  }
}

/** The server's word for a keyspace or table that it does not know (Invalid, 0x2200). */
const UNKNOWN_NAME = 0x2200

/**
 * Does `work` again while it does not find what is there: another daemon may be making it right now, and a node lists it a moment
 * before it can be used.
 */
async function onceListed<T>(work: () => Promise<T>): Promise<T> {
  const until = Date.now() + LISTED_MS
  for (;;) {
    try {
      return await work()
    } catch (error) {
      const cause =
        error instanceof DomainError ? (error.cause as { readonly code?: unknown } | undefined) : undefined
      if (cause?.code !== UNKNOWN_NAME || Date.now() > until) throw error
      await pause(LISTED_PAUSE_MS, systemScope().signal)
    }
  }
}

/** Whether there is a keyspace now. It cannot be asked for on a connection that works in it. */
async function withKeyspace(settings: ClientSettings, dryRun: boolean): Promise<boolean> {
  const client = await connectClient(settings, undefined)
  try {
    return await ensureKeyspace(client, settings.address, dryRun)
  } catch (error) {
    throw toDomainError(error, "read", systemScope())
  } finally {
    await client.shutdown()
  }
}
