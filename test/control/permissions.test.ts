import assert from "node:assert/strict"
import { describe, it } from "node:test"
import fc from "fast-check"
import { coversPermission, coversResource, holdsRpcPermission } from "../../src/domain/control/permissions.ts"

/** Small alphabets, so that matches are as common as misses. */
const word = fc.string({ unit: fc.constantFrom("a", "b", ".", "_"), minLength: 1, maxLength: 4 })
const part = fc.oneof(
  word,
  word.map((text) => `${text}*`),
  fc.constant("*"),
)
const pattern = fc.tuple(part, part).map((halves) => halves.join(":"))
const permission = fc.tuple(word, word).map((halves) => halves.join(":"))
const path = fc.array(fc.constantFrom("a", "b", "*"), { maxLength: 4 }).map((steps) => steps.join("/"))

/** The rule as a regular expression: `*` stands for anything but the colon. */
function naive(text: string): RegExp {
  return new RegExp(`^${text.replaceAll(".", "\\.").replaceAll("*", "[^:]*")}$`)
}

describe("permission patterns", () => {
  it("mean what a regular expression says", () => {
    let hits = 0
    fc.assert(
      fc.property(pattern, permission, (granted, asked) => {
        const covered = coversPermission(granted, asked)
        if (covered) hits++
        return covered === naive(granted).test(asked)
      }),
      { numRuns: 5_000 },
    )
    assert.ok(hits > 100, "the generator must produce matches")
  })

  it("hold at a resource, below a prefix, or everywhere", () => {
    fc.assert(
      fc.property(path, path, (granted, asked) => {
        const expected =
          granted === "" ||
          (granted.endsWith("/*")
            ? new RegExp(`^${granted.slice(0, -1).replaceAll("*", "\\*")}.+$`).test(asked)
            : granted === asked)
        return coversResource(granted, asked) === expected
      }),
      { numRuns: 5_000 },
    )
    assert.equal(coversResource("a/*", "a"), false)
    assert.equal(coversResource("a/*", "a/"), false)
    assert.equal(coversResource("a/*", "a/b/c"), true)
    assert.equal(coversResource("a", "ab"), false)
    assert.equal(coversResource("a", ""), false)
  })

  it("of the daemon's own RPCs are covered by themselves, their plane or all", () => {
    const held = new Set(["cache.*", "event.read"])
    for (const needed of ["cache.read", "cache.*", "event.read"]) assert.ok(holdsRpcPermission(held, needed))
    for (const needed of ["event.write", "event.*", "*", "cachex.read", "memory.read"]) {
      assert.ok(!holdsRpcPermission(held, needed), needed)
    }
    assert.ok(holdsRpcPermission(new Set(["*"]), "*"))
  })
})
