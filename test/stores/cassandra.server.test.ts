/** What only a cluster can do to a store: be away, be slow, be shared, be older or newer, refuse. */
import assert from "node:assert/strict"
import { copyFileSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { describe, it } from "node:test"
import { fileURLToPath, pathToFileURL } from "node:url"
import { systemClock } from "../../src/domain/kernel/clock.ts"
import { DomainError, type Reason } from "../../src/domain/kernel/errors.ts"
import { systemScope } from "../../src/domain/kernel/scope.ts"
import { createCassandraEventStore, openCassandra } from "../../src/stores/cassandra/index.ts"
import { MIGRATIONS } from "../../src/stores/cassandra/migrate.ts"
import { append, events, readAll, readWholeFeed, rejects } from "../contract/event-support.ts"
import {
  administer,
  atEnd,
  cassandraHosts,
  cassandraSkip,
  freshKeyspace,
  freshTenant,
  ringPorts,
  ringSkip,
  startRing,
  testCassandra,
} from "../engines/cassandra.ts"

const PATIENCE_MS = 120_000
const system = systemScope()

/** Waits until `work` no longer fails. */
async function eventually<T>(work: () => Promise<T>): Promise<T> {
  const until = Date.now() + PATIENCE_MS
  while (true) {
    try {
      return await work()
    } catch (error) {
      if (Date.now() > until) throw error
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }
}

function opened(url: string, options: { readonly timeoutMs?: number; readonly migrations?: URL } = {}) {
  const engine = openCassandra({ url, ...options })
  atEnd(() => engine.close())
  return engine
}

/** A keyspace's name that is dropped after the tests. */
async function ownKeyspace(): Promise<string> {
  const [hosts, keyspace] = [await cassandraHosts(), freshKeyspace()]
  atEnd(() => administer(hosts, `drop keyspace if exists ${keyspace}`))
  return `${hosts}/${keyspace}`
}

/** The migrations in a folder of their own, so that they can be changed. */
function copiedMigrations(): { readonly folder: string; readonly url: URL } {
  const folder = mkdtempSync(join(tmpdir(), "keelplane-cql-"))
  atEnd(() => rmSync(folder, { recursive: true, force: true }))
  for (const name of readdirSync(MIGRATIONS))
    copyFileSync(fileURLToPath(new URL(name, MIGRATIONS)), join(folder, name))
  return { folder, url: pathToFileURL(`${folder}/`) }
}

describe("cassandra shared by daemons", { skip: cassandraSkip, timeout: 600_000 }, () => {
  it("makes its keyspace and tables once, whoever of several daemons is first", async () => {
    const url = `${await ownKeyspace()}?replication=1`
    const daemons = Array.from({ length: 3 }, () => opened(url))
    const [first] = daemons
    assert.ok(first)
    const pending = await first.migrate({ dryRun: true })
    assert.ok(pending.length > 0)
    const applied = await Promise.all(daemons.map((engine) => engine.migrate()))
    assert.equal(applied.flat().length, pending.length)
    await first.ping(system)
    for (const { appliedAt } of await first.listMigrations()) assert.ok(appliedAt instanceof Date)
    assert.deepEqual(await first.migrate(), [])
    assert.equal(first.stats().connected, true)
    assert.equal(first.stats().inUse, 0)
  })

  it("says that there is no keyspace, or that its schema is another", async () => {
    const url = await ownKeyspace()
    const absent = opened(url)
    await rejects(absent.ping(system), "SCHEMA_MISMATCH")
    await rejects(absent.migrate(), "SCHEMA_MISMATCH")
    const keyspace = url.slice(url.lastIndexOf("/") + 1)
    const network = "{'class': 'NetworkTopologyStrategy', 'datacenter1': 1}"
    await administer(await cassandraHosts(), `create keyspace ${keyspace} with replication = ${network}`)
    await eventually(() => absent.ping(system))
    const store = createCassandraEventStore(absent.session, { clock: systemClock })
    await rejects(store.getStream(systemScope(freshTenant()), "s"), "SCHEMA_MISMATCH")
  })

  it("refuses a keyspace that is newer than this version, or was made by edited files", async () => {
    const url = `${await ownKeyspace()}?replication=1`
    const newer = copiedMigrations()
    writeFileSync(
      join(newer.folder, "9999_later.cql"),
      "create table if not exists later (k text primary key);\n",
    )
    await opened(url, { migrations: newer.url }).migrate()
    const engine = opened(url)
    await rejects(engine.migrate(), "SCHEMA_MISMATCH")
    await rejects(engine.listMigrations(), "SCHEMA_MISMATCH")
    const edited = copiedMigrations()
    writeFileSync(join(edited.folder, "9999_later.cql"), "-- nothing any more\n")
    await rejects(opened(url, { migrations: edited.url }).migrate(), "SCHEMA_MISMATCH")
  })

  it("ends calls with their deadline or their caller", async () => {
    const engine = await testCassandra()
    const scope = systemScope(freshTenant())
    const store = createCassandraEventStore(engine.session, { clock: systemClock })
    await append(store, scope, "s", events(1))
    const gone = { ...scope, signal: AbortSignal.abort() }
    await rejects(store.getStream(gone, "s"), "CANCELLED")
    await rejects(store.getStream({ ...scope, deadlineMs: 1 }, "s"), "DEADLINE_EXCEEDED")
    assert.equal((await store.getStream(scope, "s")).head, 1n)
  })

  it("refuses a URL that is none, without repeating it", () => {
    for (const rest of [
      "host/",
      "host/Upper",
      "host/k?typo=1",
      "host/k?replication=x",
      "host/k?tls=maybe",
      "a b/k",
    ]) {
      assert.throws(
        () => openCassandra({ url: `cassandra://user:secret@${rest}` }),
        (error) =>
          error instanceof DomainError &&
          error.reason === "INVALID_FIELD" &&
          !error.message.includes("secret"),
        rest,
      )
    }
  })
})

describe("cassandra in trouble", { skip: ringSkip, timeout: 900_000 }, () => {
  const keyspace = freshKeyspace()

  it("is unavailable until a cluster comes up, and goes on while nodes stop, freeze and die", async () => {
    const ports = await ringPorts()
    const url = `cassandra://127.0.0.1:${ports[0]},127.0.0.2:${ports[0]},127.0.0.3:${ports[0]}/${keyspace}?replication=3`
    const engine = opened(url, { timeoutMs: 3_000 })
    await rejects(engine.ping(system), "STORE_UNAVAILABLE")
    const { nodes } = await startRing(3, { ports })
    await eventually(async () => {
      await engine.migrate()
    })
    await eventually(() => engine.ping(system))
    const store = createCassandraEventStore(engine.session, { clock: systemClock, abandonedMs: 1 })
    const scope = systemScope(freshTenant())
    const [, frozen, dying] = nodes
    assert.ok(frozen && dying)
    const writers = new Writers(store, scope)
    await writers.haveKept()
    process.kill(frozen.pid, "SIGSTOP")
    // Some of these wait for the frozen node in vain, and are under way while it wakes up.
    await writers.haveEnded()
    process.kill(frozen.pid, "SIGCONT")
    await writers.haveKept()
    process.kill(dying.pid, "SIGKILL")
    await writers.haveKept()
    const outcomes = await writers.end()
    await eventually(() => checkKept(store, scope, outcomes))
    process.kill(frozen.pid, "SIGKILL")
    await eventually(() => rejects(append(store, scope, "s-0", events(1)), "STORE_UNAVAILABLE"))
    await eventually(() => rejects(store.getStream(scope, "s-0"), "STORE_UNAVAILABLE"))
  })

  it("says when the cluster refuses the login or the right", async () => {
    const { hosts } = await startRing(1, { logins: true })
    const at = hosts.slice("cassandra://".length)
    const as = (login: string) => opened(`cassandra://${login}@${at}/${keyspace}?replication=1`)
    const admin = as("cassandra:cassandra")
    await eventually(async () => {
      await admin.migrate()
    })
    await rejects(as("cassandra:wrong").ping(system), "STORE_AUTH")
    await admin.session.write(system, {
      cql: "create role if not exists reader with password = 'right' and login = true",
    })
    const reader = as("reader:right")
    const store = createCassandraEventStore(reader.session, { clock: systemClock })
    await rejects(append(store, systemScope(freshTenant()), "s", events(1)), "STORE_AUTH")
  })
})

type Store = ReturnType<typeof createCassandraEventStore>
type Scope = Parameters<Store["append"]>[0]

const WRITERS = 4

/** Each appends to a stream of its own, and notes what it was told of every event. */
class Writers {
  readonly #outcomes = new Map<string, Reason | "kept">()
  readonly #kept = Array.from({ length: WRITERS }, () => 0)
  readonly #ended = Array.from({ length: WRITERS }, () => 0)
  readonly #done: Promise<unknown>
  #over = false

  constructor(store: Store, scope: Scope) {
    this.#done = Promise.all(this.#kept.map((_, n) => this.#write(store, scope, n)))
    // Told by whoever waits.
    this.#done.catch(() => undefined)
  }

  /** Resolves when each has been told of an event, that it began after this call, that it is kept. */
  haveKept(): Promise<void> {
    return this.#until(this.#kept, 2)
  }

  /** Resolves when each has been told something of two more events. */
  haveEnded(): Promise<void> {
    return this.#until(this.#ended, 2)
  }

  /** Ends them and answers what they were told. */
  async end(): Promise<ReadonlyMap<string, Reason | "kept">> {
    this.#over = true
    await this.#done
    return this.#outcomes
  }

  async #until(counts: readonly number[], more: number): Promise<void> {
    const before = [...counts]
    const reached = async () => {
      assert.ok(
        counts.every((count, n) => count >= (before[n] ?? 0) + more),
        `the writers stand still: ${JSON.stringify(Object.groupBy(this.#outcomes.values(), (outcome) => outcome))}`,
      )
    }
    await Promise.race([eventually(reached), this.#done])
  }

  async #write(store: Store, scope: Scope, n: number): Promise<void> {
    while (!this.#over) {
      const eventId = crypto.randomUUID()
      try {
        await append(store, scope, `s-${n}`, events(1, { eventId }))
        this.#outcomes.set(eventId, "kept")
        this.#kept[n] = (this.#kept[n] ?? 0) + 1
      } catch (error) {
        assert.ok(error instanceof DomainError, String(error))
        this.#outcomes.set(eventId, error.reason)
      }
      this.#ended[n] = (this.#ended[n] ?? 0) + 1
    }
  }
}

/** What was acknowledged is there, once and in the feed; what was refused is not; nothing else is. */
async function checkKept(
  store: Store,
  scope: Scope,
  outcomes: ReadonlyMap<string, Reason | "kept">,
): Promise<void> {
  const found: string[] = []
  for (let n = 0; n < WRITERS; n++) {
    for (const { eventId } of await readAll(store, scope, `s-${n}`)) found.push(eventId)
  }
  const seen = (await readWholeFeed(store, scope)).filter(({ stream }) => stream.startsWith("s-"))
  assert.deepEqual(seen.map(({ eventId }) => eventId).sort(), [...found].sort())
  assert.equal(new Set(found).size, found.length)
  assert.ok([...outcomes.values()].includes("kept"))
  for (const [id, outcome] of outcomes) {
    if (outcome === "kept") assert.ok(found.includes(id), `${id} is lost`)
    else if (outcome !== "OUTCOME_UNKNOWN") {
      assert.notEqual(outcome, "INTERNAL", "a store in trouble is no fault of the daemon")
      assert.ok(!found.includes(id), `${id} was refused with ${outcome}`)
    }
  }
}
