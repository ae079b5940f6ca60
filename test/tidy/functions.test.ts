import assert from "node:assert/strict"
import { test } from "node:test"
import { functionLengths } from "./functions.ts"

test("the rule on long functions sees functions, methods and arrows, and counts inner ones apart", () => {
  const text = [
    "export function outer(a: string): void {",
    "  const inner = () => {",
    "    a.trim()",
    "  }",
    "  if (a) {",
    "    inner()",
    "  }",
    "}",
    "class Thing {",
    "  async method(",
    "    a: string,",
    "  ): Promise<void> {",
    "    await a",
    "  }",
    "}",
  ].join("\n")
  const found = functionLengths({ path: "x.ts", text, lines: text.split("\n") })
  assert.deepEqual(
    found.map(({ line, length }) => [line, length]).sort(),
    [
      [1, 5],
      [12, 3],
      [2, 3],
    ].sort(),
  )
})
