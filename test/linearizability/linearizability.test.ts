/**
 * What promises an order keeps it: clients of two daemons on the same servers, with answers lost, connections cut, daemons frozen and
 * killed, see streams, configuration, cached values, budgets and locks as if all they did had happened one after another.
 * `KEELPLANE_LINEARIZABILITY_SECONDS` makes it longer, `KEELPLANE_LINEARIZABILITY_SEED` repeats a run's choices.
 */
import assert from "node:assert/strict"
import { type TestContext, test } from "node:test"
import { cassandraSkip } from "../engines/cassandra.ts"
import { ownServerSkip as sqlSkip } from "../engines/postgres.ts"
import { ownServerSkip as redisSkip } from "../engines/redis.ts"
import { pathOf, skipReason } from "../support/tools.ts"
import { Arena, type Events } from "./arena.ts"
import { checkerTool, verdicts } from "./checker.ts"
import { KINDS, type Kind } from "./clients.ts"
import { storm } from "./storm.ts"

const tool = await checkerTool()
const skip = skipReason(tool) || sqlSkip || redisSkip

const SECONDS = Number(process.env.KEELPLANE_LINEARIZABILITY_SECONDS ?? 20)
const SEED = Number(process.env.KEELPLANE_LINEARIZABILITY_SEED ?? Date.now() % 1_000_000)
const CLIENTS = 4
/** Of each kind, one in two seconds; fewer would not be a test. */
const FEWEST_OPERATIONS = SECONDS / 2

async function stand(t: TestContext, events: Events, kinds: readonly Kind[]): Promise<void> {
  const arena = await Arena.open(events)
  try {
    const options = { kinds, seconds: SECONDS, clientsPerKind: CLIENTS, seed: SEED }
    const { history, faults } = await storm(arena, options)
    t.diagnostic(`seed ${SEED}: ${[...faults].map(([name, count]) => `${count} x ${name}`).join(", ")}`)
    const found = await verdicts(pathOf(tool), history.operations)
    for (const { name } of kinds) {
      const mine = found.filter(({ kind }) => kind === name)
      const sum = (what: "operations" | "unknown") => mine.reduce((total, each) => total + each[what], 0)
      t.diagnostic(
        `${name}: ${sum("operations")} operations on ${mine.length} objects, ${sum("unknown")} unknown`,
      )
      assert.ok(sum("operations") >= FEWEST_OPERATIONS, `only ${sum("operations")} operations on a ${name}`)
    }
    assert.deepEqual(
      found.filter(({ result }) => result !== "linearizable"),
      [],
    )
  } finally {
    await arena.close()
  }
}

test("PostgreSQL and Redis: every kind of object", { skip, timeout: 900_000 }, (t) =>
  stand(t, "postgres", KINDS),
)

test("Cassandra: streams", { skip: skip || cassandraSkip, timeout: 900_000 }, (t) =>
  stand(
    t,
    "cassandra",
    KINDS.filter(({ name }) => name === "stream"),
  ),
)
