/** Two built daemons on the same servers, over a network that a test makes bad, and clients that use both. */
import { randomUUID } from "node:crypto"
import { administer as administerCql, cassandraHosts, freshKeyspace } from "../engines/cassandra.ts"
import { administer, postgresServers } from "../engines/postgres.ts"
import { redisUrl } from "../engines/redis.ts"
import { type Daemon, startDaemon } from "../support/daemon.ts"
import type { Channel } from "../support/grpc-client.ts"
import { TcpProxy } from "../support/proxy.ts"

/** Which engine has the events. */
export type Events = "postgres" | "cassandra"

/** One daemon's place: it may be empty for a while. */
export interface Seat {
  daemon: Daemon
  channel: Channel
  /** False while it is dead or not up yet. */
  alive: boolean
  /** Its ways to the servers, by the store. */
  readonly network: Readonly<Record<"sql" | "cache" | "events", TcpProxy>>
  readonly env: Readonly<Record<string, string>>
}

/** Where the servers are, and what is to be removed in the end. */
interface Servers {
  readonly sql: string
  readonly cache: string
  readonly events: string
  remove(): Promise<void>
}

const SEATS = 2
/** Starts are slow where machines are shared. */
const READY_MS = 180_000

/** A fresh database and keyspace on the servers that test files share. */
async function servers(events: Events): Promise<Servers> {
  const server = (await postgresServers[0]?.url()) ?? ""
  const name = `keelplane_test_${randomUUID().replaceAll("-", "")}`
  await administer(server, `create database ${name}`)
  const sql = new URL(server)
  sql.pathname = `/${name}`
  const dropSql = () => administer(server, `drop database ${name} with (force)`)
  const cache = await redisUrl()
  if (events === "postgres") return { sql: sql.href, cache, events: sql.href, remove: dropSql }
  const hosts = await cassandraHosts()
  const keyspace = freshKeyspace()
  const remove = async () => {
    await dropSql()
    await administerCql(hosts, `drop keyspace if exists ${keyspace}`)
  }
  return { sql: sql.href, cache, events: `${hosts}/${keyspace}?replication=1`, remove }
}

/** `url` by way of a proxy. */
async function through(url: string): Promise<{ readonly url: string; readonly proxy: TcpProxy }> {
  const parts = new URL(url)
  const proxy = await TcpProxy.to(Number(parts.port))
  // The class does not change the host of schemes that it does not know.
  return { url: url.replace(`:${parts.port}`, `:${proxy.port}`), proxy }
}

/** The daemons, and what can be done to them. */
export class Arena {
  readonly seats: readonly Seat[]
  readonly #servers: Servers

  private constructor(seats: readonly Seat[], all: Servers) {
    this.seats = seats
    this.#servers = all
  }

  /** Starts the daemons; the caller closes. */
  static async open(events: Events): Promise<Arena> {
    const all = await servers(events)
    const seats: Seat[] = []
    for (let index = 0; index < SEATS; index++) {
      const [sql, cache, log] = [await through(all.sql), await through(all.cache), await through(all.events)]
      const env = {
        KEELPLANE_STORES__MEMORY__URL: sql.url,
        KEELPLANE_STORES__CONTROL__URL: sql.url,
        KEELPLANE_STORES__EVENTS__URL: events === "postgres" ? sql.url : log.url,
        KEELPLANE_STORES__CACHE__URL: cache.url,
      }
      const daemon = await startDaemon({ env, readyTimeoutMs: READY_MS })
      const network = { sql: sql.proxy, cache: cache.proxy, events: log.proxy }
      seats.push({ daemon, channel: daemon.channel(), alive: true, network, env })
    }
    return new Arena(seats, all)
  }

  /** A daemon that is up, or undefined while there is none. */
  seat(dice: number): Seat | undefined {
    const up = this.seats.filter(({ alive }) => alive)
    return up[Math.floor(dice * up.length)]
  }

  /** Kills a daemon and starts it again. */
  async kill(seat: Seat): Promise<void> {
    seat.alive = false
    await seat.daemon.stop()
    seat.channel.close()
    seat.daemon = await startDaemon({ env: seat.env, readyTimeoutMs: READY_MS })
    seat.channel = seat.daemon.channel()
    seat.alive = true
  }

  /** Ends everything. */
  async close(): Promise<void> {
    for (const { channel, daemon, network } of this.seats) {
      channel.close()
      await daemon.stop()
      for (const proxy of Object.values(network)) await proxy.close()
    }
    await this.#servers.remove()
  }
}
