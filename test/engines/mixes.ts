/** The environments of daemons on mixes of engines: each with a database, a keyspace, a server of its own, which go after the test file's tests. */
import { randomUUID } from "node:crypto"
import {
  administer as administerCql,
  atEnd as cassandraEnd,
  cassandraHosts,
  cassandraSkip,
  freshKeyspace,
} from "./cassandra.ts"
import { milvusStandalone } from "./milvus.ts"
import { administer as administerSql, atEnd as postgresEnd, postgresServers } from "./postgres.ts"
import { redisSkip, startRedis } from "./redis.ts"

/** What a daemon is started with. */
export type Environment = Readonly<Record<string, string>>

/** False, or why there is no PostgreSQL. */
export const sqlSkip: string | false = postgresServers[0]?.skip ?? "no PostgreSQL"

/** False, or why there is not one of each engine. */
export const everySkip: string | false = sqlSkip || redisSkip || cassandraSkip || milvusStandalone.skip

/** Memory, events and control in a database of PostgreSQL. */
export async function onPostgres(): Promise<Environment> {
  const server = (await postgresServers[0]?.url()) ?? ""
  const name = `keelplane_test_${randomUUID().replaceAll("-", "")}`
  await administerSql(server, `create database ${name}`)
  postgresEnd(() => administerSql(server, `drop database ${name} with (force)`))
  const url = new URL(server)
  url.pathname = `/${name}`
  return {
    KEELPLANE_STORES__MEMORY__URL: url.href,
    KEELPLANE_STORES__EVENTS__URL: url.href,
    KEELPLANE_STORES__CONTROL__URL: url.href,
  }
}

/** The cache on a server. */
export async function onRedis(): Promise<Environment> {
  return { KEELPLANE_STORES__CACHE__URL: (await startRedis()).url }
}

/** Events in a keyspace. */
export async function onCassandra(): Promise<Environment> {
  const hosts = await cassandraHosts()
  const keyspace = freshKeyspace()
  cassandraEnd(() => administerCql(hosts, `drop keyspace if exists ${keyspace}`))
  return { KEELPLANE_STORES__EVENTS__URL: `${hosts}/${keyspace}?replication=1` }
}

/** Vectors on Milvus. */
export async function onMilvus(): Promise<Environment> {
  return { KEELPLANE_STORES__VECTORS__URL: await milvusStandalone.url() }
}

/** Each store on a server of its own kind, and configuration beside events. */
export async function onEverything(): Promise<Environment> {
  const all = {
    ...(await onPostgres()),
    ...(await onRedis()),
    ...(await onCassandra()),
    ...(await onMilvus()),
  }
  return { ...all, KEELPLANE_STORES__EVENTS__CONFIGS: "true" }
}
