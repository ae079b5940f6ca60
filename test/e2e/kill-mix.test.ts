/**
 * SIGKILL in the middle of writes, again and again, with every store on a server of its own: nothing acknowledged is missing, nothing that is
 * owed to another store is lost or done twice, and no flow over several stores stays half done.
 */
import { randomUUID } from "node:crypto"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { test } from "node:test"
import {
  administer as administerCql,
  atEnd as atCqlEnd,
  cassandraHosts,
  cassandraSkip,
  freshKeyspace,
} from "../engines/cassandra.ts"
import { milvusStandalone } from "../engines/milvus.ts"
import { administer as administerSql, atEnd as atSqlEnd, postgresServers } from "../engines/postgres.ts"
import { redisSkip, redisUrl } from "../engines/redis.ts"
import { killAgainAndAgain, summaryOf } from "./kill-load.ts"

/** How often it is killed. `KEELPLANE_KILLS` deepens it. */
const KILLS = Number(process.env.KEELPLANE_KILLS ?? 3)
/** Starts are slow where machines are shared. */
const READY_MS = 180_000

async function sql(): Promise<string> {
  const server = (await postgresServers[0]?.url()) ?? ""
  const name = `keelplane_test_${randomUUID().replaceAll("-", "")}`
  await administerSql(server, `create database ${name}`)
  atSqlEnd(() => administerSql(server, `drop database ${name} with (force)`))
  const url = new URL(server)
  url.pathname = `/${name}`
  return url.href
}

async function kills(t: { diagnostic(text: string): void }, stores: Record<string, string>): Promise<void> {
  const dataDir = mkdtempSync(join(tmpdir(), "keelplane-kill-"))
  const url = await sql()
  const env = {
    KEELPLANE_STORES__MEMORY__URL: url,
    KEELPLANE_STORES__CONTROL__URL: url,
    KEELPLANE_STORES__EVENTS__URL: url,
    KEELPLANE_STORES__CACHE__URL: await redisUrl(),
    ...stores,
  }
  try {
    t.diagnostic(summaryOf(await killAgainAndAgain({ dataDir, env, readyTimeoutMs: READY_MS }, KILLS)))
  } finally {
    rmSync(dataDir, { recursive: true, force: true })
  }
}

const skip = postgresServers[0]?.skip || redisSkip

test(`PostgreSQL and Redis, ${KILLS} kills`, { skip, timeout: 600_000 }, (t) => kills(t, {}))

test(`PostgreSQL, Redis, Cassandra and Milvus, ${KILLS} kills`, {
  skip: skip || cassandraSkip || milvusStandalone.skip,
  timeout: 900_000,
}, async (t) => {
  const hosts = await cassandraHosts()
  const keyspace = freshKeyspace()
  atCqlEnd(() => administerCql(hosts, `drop keyspace if exists ${keyspace}`))
  await kills(t, {
    KEELPLANE_STORES__EVENTS__URL: `${hosts}/${keyspace}?replication=1`,
    KEELPLANE_STORES__VECTORS__URL: await milvusStandalone.url(),
  })
})
