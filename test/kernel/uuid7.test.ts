import assert from "node:assert/strict"
import { it } from "node:test"
import { validate, version } from "uuid"
import { uuid7 } from "../../src/domain/kernel/uuid7.ts"

it("makes version 7 UUIDs that say when they were made and only rise, also when the clock does not", () => {
  const start = Date.now() + 1_000
  let last = ""
  for (let n = 0; n < 20_000; n++) {
    // A clock that stands still, steps back and goes on.
    const id = uuid7(start + Math.floor(n / 1_000) - (n % 1_000 === 999 ? 50 : 0))
    assert.ok(validate(id) && version(id) === 7, id)
    assert.ok(id > last, `${id} after ${last}`)
    last = id
  }
  assert.equal(Number.parseInt(last.slice(0, 13).replace("-", ""), 16), start + 19)
})
