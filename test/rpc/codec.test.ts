/** The compiled codec against protobuf-es: for every type of the API the same bytes, the same messages, the same failures. */
import assert from "node:assert/strict"
import { spawnSync } from "node:child_process"
import { join } from "node:path"
import { describe, it } from "node:test"
import {
  create,
  type DescField,
  type DescMessage,
  fromBinary,
  isFieldSet,
  type Message,
  toBinary,
} from "@bufbuild/protobuf"
import { createValidator } from "@bufbuild/protovalidate"
import fc from "fast-check"
import { CacheServiceGetResponseSchema as GetResponse } from "../../src/gen/keelplane/v1/cache_service_pb.ts"
import { createAcceptor } from "../../src/rpc/acceptor.ts"
import { compileDecoder } from "../../src/rpc/codec/decode.ts"
import { isDeeperThan, mayBeDeeperThan } from "../../src/rpc/codec/depth.ts"
import { compileEncoder } from "../../src/rpc/codec/encode.ts"
import { DEFAULT_LIMITS } from "../../src/rpc/limits.ts"
import { messages } from "../support/random-message.ts"
import { answerTypes, requestTypes } from "./support/api-types.ts"
import { EchoRequestDesc, EchoResponseDesc } from "./support/probe.ts"

const numRuns = Number(process.env.KEELPLANE_FUZZ_RUNS ?? 60)
const RECURSION_LIMIT = 200
const generated = join(import.meta.dirname, "../../src/gen/keelplane/v1/cache_service_pb.ts")
const codec = join(import.meta.dirname, "../../src/rpc/codec")
type Fields = Readonly<Record<string, unknown>>
const options = { readUnknownFields: false, recursionLimit: RECURSION_LIMIT }

/** What happened: a value, or the words of an error. */
function outcome<T>(work: () => T): { value: T } | { failure: string } {
  try {
    return { value: work() }
  } catch (error) {
    return { failure: String(error) }
  }
}

/** What a handler would write for a message: no type names, and nothing that has its default. */
function asInit(desc: DescMessage, value: Fields): Fields {
  const init: Record<string, unknown> = {}
  for (const member of desc.members) {
    const own = value[member.localName]
    if (member.kind === "oneof") {
      const chosen = own as { case?: string; value?: unknown }
      const field = member.fields.find((each) => each.localName === chosen.case)
      if (field !== undefined)
        init[member.localName] = { case: chosen.case, value: each(field, chosen.value) }
    } else if (member.fieldKind === "list") {
      if ((own as unknown[]).length > 0)
        init[member.localName] = (own as unknown[]).map((item) => each(member, item))
    } else if (member.fieldKind === "map") {
      const entries = Object.entries(own as Fields).map(([key, item]) => [key, each(member, item)])
      if (entries.length > 0) init[member.localName] = Object.fromEntries(entries)
    } else if (isFieldSet(value as Message, member)) {
      init[member.localName] = each(member, own)
    }
  }
  return init
}

function each(field: DescField, value: unknown): unknown {
  const isJson =
    field.message?.typeName === "google.protobuf.Struct" && !field.parent.typeName.endsWith("Value")
  return field.message === undefined || isJson ? value : asInit(field.message, value as Fields)
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex")
}

function mutated(bytes: Uint8Array, [kind, at, byte]: readonly [number, number, number]): Buffer {
  const copy = Buffer.from(bytes)
  const index = copy.length === 0 ? 0 : at % copy.length
  if (kind === 0) return copy.subarray(0, index)
  if (kind === 1) return Buffer.concat([copy.subarray(0, index), Buffer.from([byte]), copy.subarray(index)])
  if (kind === 2) return Buffer.concat([copy, copy.subarray(index)])
  if (copy.length > 0) copy[index] = byte
  return copy
}

const mutations = fc.array(fc.tuple(fc.nat(3), fc.nat(), fc.nat(255)), { maxLength: 3 })

function message(desc: DescMessage): fc.Arbitrary<Message> {
  return messages(desc) as fc.Arbitrary<Message>
}

describe("the encoder", () => {
  for (const desc of answerTypes) {
    it(`writes ${desc.typeName} as protobuf-es does`, () => {
      const encode = compileEncoder(desc, () => assert.fail("left to protobuf-es"))
      fc.assert(
        fc.property(message(desc), (value) => {
          const expected = hex(toBinary(desc, value))
          assert.equal(hex(encode(value)), expected)
          assert.equal(hex(encode(asInit(desc, value as unknown as Fields))), expected)
        }),
        { numRuns },
      )
    })
  }
})

describe("the decoder", () => {
  for (const desc of requestTypes) {
    it(`reads ${desc.typeName} as protobuf-es does`, () => {
      let slow = 0
      const decoder = compileDecoder(desc, RECURSION_LIMIT, (bytes) => {
        slow++
        return fromBinary(desc, bytes, options)
      })
      fc.assert(
        fc.property(message(desc), (value) => {
          const bytes = Buffer.from(toBinary(desc, value))
          const before = slow
          const read = decoder.decode(bytes)
          assert.deepStrictEqual(read, fromBinary(desc, bytes, options))
          for (let levels = 0; levels < 40; levels++) {
            if (isDeeperThan(levels, read)) assert.ok(mayBeDeeperThan(levels, decoder.deepest))
          }
          // Only what plain assignment cannot hold is left to protobuf-es.
          if (!bytes.includes("__proto__")) assert.equal(slow, before, "left to protobuf-es")
        }),
        { numRuns },
      )
    })

    it(`reads or refuses broken ${desc.typeName} as protobuf-es does`, () => {
      const { decode } = compileDecoder(desc, RECURSION_LIMIT)
      fc.assert(
        fc.property(message(desc), mutations, (value, changes) => {
          const bytes = changes.reduce(mutated, Buffer.from(toBinary(desc, value)))
          assert.deepStrictEqual(
            outcome(() => decode(bytes)),
            outcome(() => fromBinary(desc, bytes, options)),
          )
        }),
        { numRuns },
      )
    })
  }
})

const text = (length: number, last: string) => "a".repeat(Math.max(0, length - 1)) + last
const LENGTHS = [1, 23, 24, 25, 39, 40, 41, 42, 126, 127, 128, 129, 16383, 16384, 40_000, 2_100_000]

describe("strings and bytes", () => {
  const encode = compileEncoder(GetResponse, () => assert.fail("left to protobuf-es"))
  const answer = (value: object) => ({ found: true, entry: { value } })

  for (const last of ["z", "\u0000", "\u007f", "\u0080", "é", "€", "\u{1F600}", "\ufeff", "\ufffd"]) {
    it(`have every length, ending with ${JSON.stringify(last)}`, () => {
      for (const length of LENGTHS) {
        const wanted = answer({ case: "text", value: text(length, last) })
        const expected = toBinary(GetResponse, create(GetResponse, wanted as never))
        assert.ok(Buffer.from(encode(wanted)).equals(expected), String(length))
      }
    })
  }

  it("are bytes of every length", () => {
    for (const length of LENGTHS) {
      const wanted = answer({ case: "data", value: Buffer.alloc(length, 7) })
      const expected = toBinary(GetResponse, create(GetResponse, wanted as never))
      assert.ok(Buffer.from(encode(wanted)).equals(expected), String(length))
    }
  })

  it("keep half a surrogate pair as protobuf-es does", () => {
    for (const value of ["\ud800", "a\udc00b", `${"a".repeat(60)}\ud83d`]) {
      const wanted = answer({ case: "text", value })
      assert.equal(hex(encode(wanted)), hex(toBinary(GetResponse, create(GetResponse, wanted as never))))
    }
  })
})

describe("an answer", () => {
  const encode = compileEncoder(EchoResponseDesc)

  it("leaves room before it, and does not share it with another", () => {
    const first = encode({ text: "first" }, 5)
    const second = encode({ text: "second" }, 5)
    first.fill(0xff, 0, 5)
    second.fill(0xee, 0, 5)
    assert.equal(hex(first), `ffffffffff${hex(encode({ text: "first" }))}`)
    assert.equal(hex(second), `eeeeeeeeee${hex(encode({ text: "second" }))}`)
  })

  it("is written by protobuf-es where values are of another type than they should, with room, too", () => {
    const odd = [
      { number: "7" },
      { number: 2 ** 40 },
      { number: 1.5 },
      { number: null },
      { text: 7 },
      { text: null },
      { deadlineMs: 7 },
      { deadlineMs: "7" },
      { deadlineMs: 2n ** 63n },
      { blob: [1, 2] },
      { blob: [] },
      { blob: "x" },
      { $typeName: "keelplane.probe.v1.EchoRequest", text: "x" },
      { $unknown: [{ no: 99, wireType: 0, data: Buffer.from([1]) }] },
      create(EchoResponseDesc, { $unknown: [{ no: 99, wireType: 0, data: Buffer.from([1]) }] } as never),
    ]
    for (const value of odd) {
      const slowly = outcome(() => hex(toBinary(EchoResponseDesc, create(EchoResponseDesc, value as never))))
      assert.deepEqual(
        outcome(() => hex(encode(value))),
        slowly,
        Object.keys(value).join(),
      )
      if ("value" in slowly) assert.equal(hex(encode(value, 5).subarray(5)), slowly.value)
    }
    assert.equal(
      hex(encode({ number: 1 })),
      hex(toBinary(EchoResponseDesc, create(EchoResponseDesc, { number: 1 } as never))),
    )
  })
})

describe("a request", () => {
  const { decode } = compileDecoder(EchoRequestDesc, RECURSION_LIMIT)

  const nested = (depth: number) => {
    let data: object = {}
    for (let level = 0; level < depth; level++) data = level % 2 === 0 ? { a: data } : { a: [data] }
    return create(EchoRequestDesc, { data } as never)
  }

  it("may nest as deep as protobuf-es lets it, and no deeper", () => {
    const failures = new Set<boolean>()
    for (let depth = 50; depth < 90; depth++) {
      const bytes = Buffer.from(toBinary(EchoRequestDesc, nested(depth)))
      const expected = outcome(() => fromBinary(EchoRequestDesc, bytes, options))
      failures.add("failure" in expected)
      assert.deepEqual(
        outcome(() => decode(bytes)),
        expected,
        String(depth),
      )
    }
    assert.equal(failures.size, 2)
  })

  it("meets the same limit of levels as bytes and as a message", () => {
    const limits = { ...DEFAULT_LIMITS, maxDepth: 20 }
    const { accept } = createAcceptor(EchoRequestDesc, createValidator(), limits)
    const reasons: string[] = []
    for (let depth = 1; depth < 20; depth++) {
      const value = nested(depth)
      const expected = outcome(() => accept(value))
      const bytes = Buffer.from(toBinary(EchoRequestDesc, value))
      assert.deepEqual(
        outcome(() => accept(bytes)),
        expected,
      )
      reasons.push("value" in expected ? "taken" : "refused")
    }
    // The message is level 0 and `data` is level 1; every second object brings a list with it.
    assert.equal(reasons.indexOf("refused"), 13)
    assert.ok(!reasons.slice(13).includes("taken"))
  })

  it("may come as bytes that are no Buffer", () => {
    const bytes = new Uint8Array([
      0,
      ...toBinary(EchoRequestDesc, create(EchoRequestDesc, { blob: [1, 2] } as never)),
    ])
    const expected = fromBinary(EchoRequestDesc, bytes.subarray(1), options)
    assert.deepStrictEqual(decode(bytes.subarray(1)), expected)
  })

  it("may have its fields in any order, twice, packed or not, and unknown ones", () => {
    const message = toBinary(EchoRequestDesc, create(EchoRequestDesc, { text: "a", data: { x: 1 } } as never))
    const other = toBinary(
      EchoRequestDesc,
      create(EchoRequestDesc, { text: "b", data: { y: [null] } } as never),
    )
    const unknown = Buffer.from("f87f01f97f0102030405060708fa7f0161fd7f01020304", "hex")
    const group = Buffer.from("fb7f0801fc7f", "hex")
    for (const parts of [
      [message, other],
      [unknown, message, unknown],
      [group, message],
      [message, group],
    ]) {
      const bytes = Buffer.concat(parts)
      assert.deepStrictEqual(decode(bytes), fromBinary(EchoRequestDesc, bytes, options))
    }
  })
})

it("works where the runtime compiles no text", () => {
  const script = `
    import { compileEncoder } from ${JSON.stringify(join(codec, "encode.ts"))}
    import { compileDecoder } from ${JSON.stringify(join(codec, "decode.ts"))}
    import { compileRules } from ${JSON.stringify(join(codec, "rules.ts"))}
    import { CacheServiceGetRequestSchema as desc } from ${JSON.stringify(generated)}
    const bytes = compileEncoder(desc)({ key: "k" }, 5)
    console.log(bytes.length, compileDecoder(desc, 9).decode(bytes.subarray(5)).key, compileRules(desc))`
  const args = ["--disallow-code-generation-from-strings", "--input-type=module-typescript", "-e", script]
  const { stdout, stderr } = spawnSync(process.execPath, args, { encoding: "utf8", timeout: 60_000 })
  assert.equal(stdout, "8 k undefined\n", stderr)
})
