/**
 * Keeps the driver's own connection, by which it hears of nodes, from doing harm when the network is bad. Left to itself, the driver looks
 * for a new one several times at once, fails then with errors that nobody handles and that end the process, leaves connections open
 * that it has given up, adds one to a node's pool each time, and forgets nodes that it has replaced while these connect for ever.
 */
import type cassandra from "cassandra-driver"

/** After how long it is tried again where the driver gave up, in milliseconds. */
const RETRY_MS = 1_000
/** Connections to one node: for statements, and the driver's own. */
const MOST_PER_NODE = 2

/** What is used here of the driver's connections. */
interface DriverConnection {
  readonly connected: boolean
  getInFlight(): number
  close(): void
}

/** A node. */
interface DriverHost {
  readonly pool: DriverPool
  /** Without `gently` it also ends what is under way. */
  shutdown(gently: boolean): Promise<void>
}

interface DriverPool {
  readonly connections: readonly DriverConnection[]
  remove(connection: DriverConnection): void
}

/** Which nodes have what. */
interface DriverMetadata {
  readonly keyspaces: Readonly<Record<string, { replicas?: unknown }>>
  buildTokens(hosts: cassandra.HostMap): void
}

/** What is used here of what the driver keeps to itself; of the version that is pinned. */
interface ControlConnection {
  readonly connection: DriverConnection | null
  _isShuttingDown: boolean
  _refresh(plan?: unknown): Promise<void>
  _createConnection(contactPoint: string): Promise<DriverConnection>
  shutdown(): void
}

/** Must come before the client connects. */
export function steady(client: cassandra.Client): void {
  const { controlConnection: control, metadata } = client as unknown as {
    readonly controlConnection: ControlConnection
    readonly metadata: DriverMetadata
  }
  let replaced = false
  const made = new Set<DriverConnection>()
  const pools = () => client.hosts.values().map((host) => (host as unknown as DriverHost).pool)
  const sweep = () => {
    if (replaced) {
      // The driver would go on sending statements to those that it has replaced.
      metadata.buildTokens(client.hosts)
      for (const keyspace of Object.values(metadata.keyspaces)) keyspace.replicas = undefined
      replaced = false
    }
    for (const pool of pools()) trim(pool, control.connection)
    for (const connection of made) {
      if (connection === control.connection) continue
      if (!pools().some((pool) => pool.connections.includes(connection))) connection.close()
      made.delete(connection)
    }
  }
  // One that comes in the place of another is taken for the same; nobody asks the other any more.
  client.hosts.on("remove", (host: DriverHost) => {
    replaced = true
    host.shutdown(false).catch(() => undefined)
  })
  const create = control._createConnection.bind(control)
  control._createConnection = async (contactPoint) => {
    const connection = await create(contactPoint)
    made.add(connection)
    return connection
  }
  control._refresh = oneAtATime(control, sweep)
  const shutdown = control.shutdown.bind(control)
  control.shutdown = () => {
    shutdown()
    for (const connection of made) connection.close()
    made.clear()
  }
}

/** The driver's search for a new connection: once at a time, again where that found none, and never with an error. */
function oneAtATime(control: ControlConnection, sweep: () => void): ControlConnection["_refresh"] {
  const refresh = control._refresh.bind(control)
  let running: Promise<void> | undefined
  const isFine = () => control._isShuttingDown || control.connection?.connected === true
  const later = () => {
    setTimeout(() => {
      if (!isFine()) void control._refresh()
    }, RETRY_MS).unref()
  }
  const run = async () => {
    try {
      await refresh()
    } catch {
      // What failed is in the calls that need a node; the driver's own search goes on below.
    } finally {
      running = undefined
      sweep()
      if (!isFine()) later()
    }
  }
  return (plan) => {
    // A part of the search that is under way.
    if (plan !== undefined) return refresh(plan)
    running ??= run()
    return running
  }
}

/** Ends what the node's pool has too much of; what is in use may be so until the next time. */
function trim(pool: DriverPool, own: DriverConnection | null): void {
  const spare = pool.connections.filter((each) => each !== own && each.getInFlight() === 0)
  const tooMany = pool.connections.length - MOST_PER_NODE
  for (const connection of spare.slice(0, Math.max(0, tooMany))) pool.remove(connection)
}
