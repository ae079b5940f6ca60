import assert from "node:assert/strict"
import { test } from "node:test"
import { staleFiles } from "../../scripts/docs.ts"

test("what is generated from code is up to date; otherwise run node scripts/docs.ts", () => {
  assert.deepEqual(staleFiles(), [])
})
