/**
 * Events by `cassandra-driver`, in tables with the columns of the daemon's. An append has to find its place in two orders, the stream's
 * and that of all events, by a conditional batch each, and nobody takes along what others want to append. Heads are kept in
 * memory, and whoever writes after the same head waits for the one before: the server would only refuse it.
 */
import { randomUUID } from "node:crypto"
import cassandra from "cassandra-driver"
import { BATCH } from "../cases.ts"
import type { OpenBare } from "./bare.ts"

const EVENTS = `create table if not exists events (
  tenant text, stream text, bucket bigint, revision bigint, head bigint static, epoch bigint static, recorded_head bigint static,
  attempt uuid, event_id uuid, type text, json text, content_type text, correlation_id text, causation_id text, trace_parent text,
  occurred_ms bigint, recorded_ms bigint, size int, primary key ((tenant, stream, bucket), revision))`
const FEED = `create table if not exists feed (
  tenant text, bucket bigint, position bigint, head bigint static, stream text, first_revision bigint, events int, attempt uuid,
  entered_ms bigint, primary key ((tenant, bucket), position))`

const HEAD = `update events set head = ?, epoch = ?, recorded_head = ? where tenant = 't' and stream = ? and bucket = 0 if epoch = ?`
const EVENT = `insert into events (tenant, stream, bucket, revision, attempt, event_id, type, json, content_type, correlation_id, causation_id,
  trace_parent, occurred_ms, recorded_ms, size) values ('t', ?, 0, ?, ?, ?, 'bench.event', ?, '', '', '', '', ?, ?, 300)`
const FEED_HEAD = "update feed set head = ? where tenant = 't' and bucket = 0 if head = ?"
const FEED_ENTRY = `insert into feed (tenant, bucket, position, stream, first_revision, events, attempt, entered_ms)
  values ('t', 0, ?, ?, ?, ?, ?, ?)`

interface Head {
  at: number
  epoch: number | null
  last: Promise<unknown>
}

/** See the file's comment. `url` is `cassandra://host:port/keyspace`. */
export const open: OpenBare = async (url) => {
  const { host, pathname } = new URL(url.replace(/^\w+:/, "http:"))
  const client = new cassandra.Client({
    contactPoints: [host],
    localDataCenter: "datacenter1",
    queryOptions: { prepare: true, consistency: cassandra.types.consistencies.localQuorum },
  })
  await client.connect()
  const keyspace = `${pathname.slice(1)}_bare`
  await client.execute(
    `create keyspace if not exists ${keyspace} with replication = {'class': 'SimpleStrategy', 'replication_factor': 1}`,
  )
  await client.execute(`use ${keyspace}`, [], { prepare: false })
  await client.execute(EVENTS)
  await client.execute(FEED)

  const run = randomUUID().slice(0, 8)
  const heads = new Map<string, Head>()
  /** Does something once nobody else is at work on the head. */
  const alone = <T>(name: string, work: (head: Head) => Promise<T>): Promise<T> => {
    const head = heads.get(name) ?? { at: 0, epoch: null, last: Promise.resolve() }
    heads.set(name, head)
    const done = head.last.then(() => work(head))
    head.last = done
    return done
  }
  const conditional = async (queries: { query: string; params: unknown[] }[]) => {
    const answer = await client.batch(queries, { prepare: true, logged: false })
    if (!answer.wasApplied()) throw new Error("a conditional batch of the bare driver was refused")
  }
  const long = (value: number) => cassandra.types.Long.fromNumber(value)
  let feedHead: number | null = null
  const enter = (stream: string, first: number, events: number, attempt: string) =>
    alone("feed", async () => {
      const position = (feedHead ?? 0) + 1
      const before = feedHead === null ? null : long(feedHead)
      const entry = [long(position), stream, long(first), events, attempt, long(Date.now())]
      await conditional([
        { query: FEED_HEAD, params: [long(position), before] },
        { query: FEED_ENTRY, params: entry },
      ])
      feedHead = position
    })
  const { rows } = await client.execute("select head from feed where tenant = 't' and bucket = 0 limit 1")
  feedHead = rows[0]?.head == null ? null : Number(rows[0].head)
  const json = JSON.stringify({ text: "x".repeat(100) })
  const append = (stream: string, events: number, isFed: boolean) =>
    alone(stream, async (head) => {
      const attempt = randomUUID()
      const now = long(Date.now())
      if (isFed) await enter(stream, head.at + 1, events, attempt)
      const epoch = (head.epoch ?? 0) + 1
      const before = head.epoch === null ? null : long(head.epoch)
      await conditional([
        { query: HEAD, params: [long(head.at + events), long(epoch), now, stream, before] },
        ...Array.from({ length: events }, (_, each) => ({
          query: EVENT,
          params: [stream, long(head.at + 1 + each), attempt, randomUUID(), json, now, now],
        })),
      ])
      head.at += events
      head.epoch = epoch
    })
  return {
    append: (index) => append(`bench-${run}-${index % 64}`, 1, true),
    appendToOne: () => append(`bench-${run}-one`, 1, true),
    appendMany: (index) => append(`many-${run}-${index % 64}`, BATCH, true),
    appendUnfed: (index) => append(`unfed-${run}-${index % 64}`, 1, false),
    appendToOneUnfed: () => append(`unfed-${run}-one`, 1, false),
  }
}
