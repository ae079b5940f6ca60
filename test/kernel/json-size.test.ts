import assert from "node:assert/strict"
import test from "node:test"
import { create, toBinary } from "@bufbuild/protobuf"
import fc from "fast-check"
import type { JsonObject } from "../../src/domain/kernel/json.ts"
import { structBytes } from "../../src/domain/kernel/json-size.ts"
import { AppendEventsRequestSchema } from "../../src/gen/keelplane/v1/event_service_pb.ts"

/** The size by the library that puts it on the wire. */
function encoded(value: JsonObject): number {
  const message = create(AppendEventsRequestSchema, { events: [{ statePatch: value }] })
  const empty = create(AppendEventsRequestSchema, { events: [{ statePatch: {} }] })
  return (
    toBinary(AppendEventsRequestSchema, message).length - toBinary(AppendEventsRequestSchema, empty).length
  )
}

test("an object weighs on the wire what is said, but for the lengths of what is around it", () => {
  const objects = fc.dictionary(fc.string({ unit: "grapheme" }), fc.jsonValue({ maxDepth: 4 }), {
    maxKeys: 20,
  })
  fc.assert(
    fc.property(objects, (value) => {
      const object = JSON.parse(JSON.stringify(value)) as JsonObject
      const around = encoded(object) - structBytes(object)
      assert.ok(around >= 0 && around <= 8, `${around} bytes around ${JSON.stringify(object)}`)
    }),
  )
})
