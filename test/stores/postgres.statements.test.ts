/** Statements made at run time: which are prepared, and names that pass from one text to another. */
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { systemScope } from "../../src/domain/kernel/scope.ts"
import { StatementNames } from "../../src/stores/postgres/statement-names.ts"
import { onSqlEngines, sqlEnginesAndPooler } from "../engines/sql-suites.ts"

describe("names of statements", () => {
  it("are given to a text that comes again, and taken from the one that was not asked for longest", () => {
    const names = new StatementNames("a")
    const twice = (text: string) => [names.of(text), names.of(text)][1]
    assert.equal(names.of("once"), undefined)
    const first = twice("first")
    const others = Array.from({ length: 31 }, (_, n) => twice(`text ${n}`))
    assert.equal(new Set([first, ...others]).size, 32, "each its own")
    assert.equal(names.of("first"), first)
    const oldest = others[0]
    assert.equal(twice("one more"), oldest)
    assert.equal(names.of("text 0"), undefined, "it lost its name")
    assert.equal(names.of("first"), first)
  })

  it("forgets what came once long ago", () => {
    const names = new StatementNames("a")
    names.of("early")
    for (let n = 0; n < 128; n++) names.of(`text ${n}`)
    assert.equal(names.of("early"), undefined)
    assert.notEqual(names.of("early"), undefined)
  })
})

const candidates = await sqlEnginesAndPooler()
onSqlEngines((open) => {
  it("a name stands for the text that it was used with last, also within one round trip and after a failed one", async () => {
    const { database } = await open()
    const named = (text: string, ...values: unknown[]) => ({ name: "passed_on", text, values })
    const ask = async (text: string, ...values: unknown[]) => {
      const { rows } = await database.query(systemScope(), named(text, ...values))
      return Object.values(rows[0] ?? {})
    }
    for (let round = 0; round < 3; round++) {
      assert.deepEqual(await ask("select 1 as a"), [1])
      assert.deepEqual(await ask("select $1::text as b, 2 as c", "x"), ["x", 2])
      const both = await database.pipeline(systemScope(), [named("select 3 as d"), named("select 4 as d")])
      assert.deepEqual(
        both.map(({ rows }) => rows[0]?.d),
        [3, 4],
      )
      await assert.rejects(ask("select 1 / $1::int as e", 0))
      await assert.rejects(ask("select nothing from nowhere"))
      assert.deepEqual(await ask("select 1 / $1::int as e", 1), [1])
    }
  })
}, candidates)
