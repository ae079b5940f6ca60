/** The list that calls are in while they wait. */
import assert from "node:assert/strict"
import { test } from "node:test"
import fc from "fast-check"
import { type Link, Linked } from "../../src/rpc/linked.ts"

interface Item extends Link<Item> {
  readonly name: number
}

test("has those that were added and not deleted, the newest first, whatever the order", () => {
  const steps = fc.array(fc.record({ name: fc.nat(9), adds: fc.boolean() }), { maxLength: 60 })
  fc.assert(
    fc.property(steps, (taken) => {
      const items = Array.from(
        { length: 10 },
        (_, name): Item => ({ name, newer: undefined, older: undefined }),
      )
      const list = new Linked<Item>()
      let model: Item[] = []
      for (const { name, adds } of taken) {
        const item = items[name] as Item
        const isIn = model.includes(item)
        if (!adds) {
          assert.equal(list.delete(item), isIn)
          model = model.filter((each) => each !== item)
        } else if (!isIn) {
          list.add(item)
          model.unshift(item)
        }
        assert.equal(list.size, model.length)
        assert.deepEqual(
          list.all().map((each) => each.name),
          model.map((each) => each.name),
        )
      }
    }),
  )
})
