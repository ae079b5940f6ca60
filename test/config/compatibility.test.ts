/** The page of what runs where, against the suites. */
import assert from "node:assert/strict"
import { readFileSync } from "node:fs"
import { test } from "node:test"
import { allSuites, enginesOf, suitesByEngine } from "../../scripts/compatibility.ts"
import { EXCEPTIONS } from "../contract/exceptions.ts"

test("every suite runs on some engine, and every engine runs some", () => {
  const byEngine = suitesByEngine()
  const run = new Set([...byEngine.values()].flatMap((suites) => [...suites]))
  // Parts of the cache suite, which runs them.
  const parts = allSuites().filter((suite) => suite.startsWith("cache-"))
  assert.deepEqual(
    allSuites().filter((suite) => !run.has(suite)),
    parts,
  )
  for (const [engine, suites] of byEngine) assert.ok(suites.size > 0, engine)
})

test("every exception names a test of a suite that runs on its engines", () => {
  for (const { engine, suite, tests } of EXCEPTIONS) {
    assert.ok(enginesOf(engine).length > 0, engine)
    for (const name of enginesOf(engine))
      assert.ok(suitesByEngine().get(name)?.has(suite), `${suite} on ${name}`)
    const text = readFileSync(new URL(`../contract/${suite}.contract.ts`, import.meta.url), "utf8")
    const titles = [...text.matchAll(/(["`])((?:(?!\1).)+)\1/g)].map(([, , title = ""]) => title)
    for (const name of Object.keys(tests)) {
      assert.ok(
        titles.some((title) => matches(title, name)),
        `${suite} has no test "${name}"`,
      )
    }
  }
})

/** Whether a title in the source, which may have parts to be filled in, is that of the test. */
function matches(title: string, name: string): boolean {
  const parts = title
    .split(/\$\{[^}]*\}/)
    .map((part) => part.replaceAll(/[.*+?^$()|[\]\\{}]/g, String.raw`\$&`))
  return parts.join("").length > 10 && new RegExp(`^${parts.join(".+")}$`).test(name)
}
