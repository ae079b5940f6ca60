/** The page about reliability tells of the cells that there are. Its figures are those of one run, and nobody's promise. */
import assert from "node:assert/strict"
import { readFileSync } from "node:fs"
import { test } from "node:test"
import { cellsOf, ENGINES, FAULTS, NOT_PLAYED } from "./cells.ts"

const page = readFileSync(new URL("../../docs/reliability.md", import.meta.url), "utf8").split("\n")

test("the page has each cell that is played, and each that is not with its reason", () => {
  const rows = page.flatMap((line) => {
    const [, engine, fault] = /^\| (\w+) \| ([\w -]+) \|/.exec(line) ?? []
    return ENGINES.some((each) => each === engine) ? [`${engine} ${fault}`] : []
  })
  const cells = ENGINES.flatMap((engine) => Object.keys(FAULTS).map((fault) => `${engine} ${fault}`))
  assert.deepEqual(rows.toSorted(), cells.toSorted())
  for (const engine of ENGINES) {
    for (const [fault, why] of Object.entries(NOT_PLAYED[engine]))
      assert.ok(page.includes(`| ${engine} | ${fault} | ${why} |`), `${engine} ${fault}`)
    for (const fault of cellsOf(engine))
      assert.ok(page.some((line) => line.startsWith(`| ${engine} | ${fault} | `)))
  }
})
