/** What passes over a connection to Redis: commands in the protocol's form, answers in pieces of any size, and calls whose connection or time ends. */
import assert from "node:assert/strict"
import { PassThrough } from "node:stream"
import { test } from "node:test"
import type { CacheValue } from "../../src/domain/cache/model.ts"
import type { Answer } from "../../src/stores/redis/answers.ts"
import { readEntry } from "../../src/stores/redis/entries.ts"
import { Packet, Preformed, type Word } from "../../src/stores/redis/packet.ts"
import { Replies, ReplyError } from "../../src/stores/redis/replies.ts"
import { decodeValue, encodeValue, viewValue } from "../../src/stores/redis/values.ts"
import { Call, Wire } from "../../src/stores/redis/wire.ts"

/** The words of a command as any reader of the protocol sees them. */
function wordsOf(bytes: Buffer): readonly (readonly string[])[] {
  const told: Answer[] = []
  new Replies((answer) => told.push(answer as Answer)).read(bytes)
  return told.map((command) => (command as readonly Buffer[]).map((word) => word.toString("utf8")))
}

const bytesOf = (packet: Packet) => Buffer.concat(packet.take())

test("commands have the words that were given, whatever they are made of", () => {
  const packet = new Packet()
  const long = "ä".repeat(40_000)
  const commands: readonly (readonly [string, readonly Word[]])[] = [
    ["GET", ["key"]],
    ["SET", ["", Buffer.alloc(0), 0, 9, 10, 99, 100, -1, 1.5, 123_456]],
    ["SET", ["ключ 🔑", long, Buffer.from(long)]],
    ["EVALSHA", [new Preformed(["first", "zweiter ß"]), "x".repeat(63), "x".repeat(64), "x".repeat(65)]],
    ["LONG", Array.from({ length: 12_345 }, (_, index) => `key-${index}`)],
  ]
  for (const [name, words] of commands) packet.command(name, words)
  const flat = (word: Word) => (word instanceof Preformed ? ["first", "zweiter ß"] : [String(word)])
  assert.deepEqual(
    wordsOf(bytesOf(packet)),
    commands.map(([name, words]) => [name, ...words.flatMap(flat)]),
  )
  assert.deepEqual(packet.take(), [], "what was taken is gone")
})

test("what was taken stays as it is while the next packet is made", () => {
  const packet = new Packet()
  packet.command("SET", ["a", "1"])
  const first = bytesOf(packet)
  const kept = first.toString()
  packet.command("SET", ["b", "2"])
  assert.equal(first.toString(), kept)
  assert.deepEqual(wordsOf(bytesOf(packet)), [["SET", "b", "2"]])
})

const SAID =
  "+OK\r\n-WRONG it is\r\n:42\r\n:-7\r\n$3\r\nabc\r\n$0\r\n\r\n$-1\r\n*-1\r\n*0\r\n*3\r\n:1\r\n*2\r\n$2\r\n\r\n\r\n$-1\r\n+x\r\n$1\r\nz\r\n"
const shown = (answer: Answer | ReplyError): unknown => {
  if (answer instanceof ReplyError) return `refused: ${answer.message}`
  if (Buffer.isBuffer(answer)) return answer.toString()
  return Array.isArray(answer) ? (answer as readonly Answer[]).map(shown) : answer
}
const MEANT = ["OK", "refused: WRONG it is", 42, -7, "abc", "", null, null, [], [1, ["\r\n", null], "x"], "z"]

test("answers are the same however their bytes are cut", () => {
  const bytes = Buffer.from(SAID)
  for (let size = 1; size <= bytes.length; size++) {
    const told: unknown[] = []
    const replies = new Replies((answer) => told.push(shown(answer)))
    for (let at = 0; at < bytes.length; at += size) replies.read(bytes.subarray(at, at + size))
    assert.deepEqual(told, MEANT, `in pieces of ${size}`)
  }
})

test("a failure inside a list fails the list, and nothing after it", () => {
  const told: unknown[] = []
  new Replies((answer) => told.push(shown(answer))).read(Buffer.from("*2\r\n-ERR a\r\n*1\r\n:1\r\n:2\r\n"))
  assert.deepEqual(told, ["refused: ERR a", 2])
})

test("what is not the protocol is refused", () => {
  assert.throws(
    () => new Replies(() => undefined).read(Buffer.from("HTTP/1.1 400 Bad Request\r\n")),
    TypeError,
  )
})

test("entries are read as the servers' library packs them", () => {
  const text = (word: string) => [0xa0 + word.length, ...Buffer.from(word)]
  const u64 = [0xcf, 0, 6, 0x4a, 0, 0, 0, 0, 1]
  const entry = [
    0x97,
    ...text("value"),
    ...u64,
    0xff,
    0xff,
    0xcd,
    1,
    0x2c,
    0xd9,
    4,
    ...Buffer.from("t0:x"),
    0,
  ]
  assert.deepEqual(readEntry(Buffer.from(entry)), {
    kind: "value",
    revision: 0x0006_4a00_0000_0001n,
    expires: Number.POSITIVE_INFINITY,
    bytes: 300,
    value: Buffer.from("t0:x"),
    isTagged: false,
  })
  const tagged = [
    0x99,
    ...text("hash"),
    1,
    0xcb,
    ...doubleOf(1.5e12),
    0xd1,
    0xff,
    0,
    0xce,
    0,
    1,
    0,
    0,
    0xa0,
    3,
  ]
  const read = readEntry(Buffer.from([...tagged, ...text("tag"), 1]))
  assert.deepEqual([read.kind, read.expires, read.bytes, read.isTagged], ["hash", 1.5e12, 65_536, true])
  for (let length = 0; length < entry.length - 1; length++) {
    assert.throws(() => readEntry(Buffer.from(entry.slice(0, length))), TypeError, `cut after ${length}`)
  }
})

function doubleOf(value: number): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeDoubleBE(value)
  return bytes
}

test("values come back as they were, as a view or with memory of their own", () => {
  const values: readonly CacheValue[] = [
    { content: { case: "data", value: Uint8Array.of(1, 0x3a, 255) }, contentType: "" },
    { content: { case: "data", value: new Uint8Array() }, contentType: "image/png" },
    { content: { case: "text", value: "ä:1" }, contentType: "text/plain; charset=ü" },
    { content: { case: "json", value: { a: [1, null] } }, contentType: "" },
    { content: { case: "integer", value: -(2n ** 63n) }, contentType: "" },
    { content: { case: "number", value: -0.5 }, contentType: "x".repeat(120) },
  ]
  for (const value of values) {
    const stored = Buffer.concat([Buffer.from("??"), Buffer.from(encodeValue(value) as string)]).subarray(2)
    assert.deepEqual(viewValue(stored), value)
    assert.deepEqual(decodeValue(stored), value)
  }
})

/** A call that notes how it ended. */
class Noted extends Call {
  readonly ends: unknown[] = []
  readonly #words: readonly string[]

  constructor(words: readonly string[], leftMs = Number.POSITIVE_INFINITY) {
    super()
    this.#words = words
    this.untilMs = performance.now() + leftMs
  }

  write(packet: Packet): void {
    packet.command("ECHO", this.#words)
  }

  answered(answer: Answer): void {
    this.ends.push(shown(answer))
  }

  failed(error: unknown): void {
    this.ends.push(error instanceof Error ? error.message : error)
  }

  late(): void {
    this.ends.push("late")
  }
}

/** A stream whose other end is the test: what is written, and what it says. */
class Line extends PassThrough {
  readonly written: string[] = []

  override _transform(bytes: Buffer, _encoding: string, done: () => void): void {
    this.written.push(bytes.toString())
    done()
  }

  say(text: string): void {
    this.push(Buffer.from(text))
  }
}

const turn = () => new Promise<void>((resolve) => setImmediate(resolve))

async function until(met: () => boolean): Promise<void> {
  while (!met()) await turn()
}

function connected(silenceMs = 60_000) {
  const line = new Line()
  const refused: string[] = []
  const wire = new Wire(line, silenceMs, { refused: ({ message }) => refused.push(message) })
  return { line, wire, refused }
}

test("calls of one turn leave together, and the next ones once those are answered", async () => {
  const { line, wire, refused } = connected()
  const [a, b, c] = [new Noted(["a"]), new Noted(["b"]), new Noted(["c"])]
  wire.begin(a)
  wire.begin(b)
  await until(() => line.written.length === 1)
  wire.begin(c)
  for (let turns = 0; turns < 5; turns++) await turn()
  assert.equal(line.written.length, 1)
  line.say("$1\r\nA\r\n-NO b\r\n")
  await until(() => line.written.length === 2)
  line.say("$1\r\nC\r\n")
  await until(() => c.ends.length === 1)
  assert.deepEqual([a.ends, b.ends, c.ends], [["A"], ["NO b"], ["C"]])
  assert.deepEqual(refused, ["NO b"])
  line.destroy()
})

test("a call that is late is told so once, and its answer goes to nobody else", async () => {
  const { line, wire } = connected()
  const [late, next] = [new Noted(["a"], 5), new Noted(["b"])]
  wire.begin(late)
  wire.begin(next)
  await new Promise((resolve) => setTimeout(resolve, 1))
  const started = performance.now()
  while (late.ends.length === 0) {
    assert.ok(performance.now() - started < 60_000)
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
  assert.ok(performance.now() >= late.untilMs)
  line.say("$1\r\nA\r\n$1\r\nB\r\n")
  await until(() => next.ends.length === 1)
  assert.deepEqual([late.ends, next.ends], [["late"], ["B"]])
  line.destroy()
})

test("what was sent may have been done when the connection ends; what was not sent was not", async () => {
  const { line, wire } = connected()
  const [sent, unsent] = [new Noted(["a"]), new Noted(["b"])]
  wire.begin(sent)
  await until(() => line.written.length === 1)
  wire.begin(unsent)
  line.destroy()
  await until(() => unsent.ends.length === 1)
  assert.deepEqual(sent.ends, ["the connection ended"])
  assert.deepEqual(unsent.ends, ["the cache store cannot be reached; nothing was applied"])
  assert.equal(wire.isOpen, false)
})

test("a connection that says nothing for too long is given up, and so is one that says what nobody asked for", async () => {
  const silent = connected(5)
  const call = new Noted(["a"])
  silent.line.on("error", () => undefined)
  silent.wire.begin(call)
  while (call.ends.length === 0) await new Promise((resolve) => setTimeout(resolve, 1))
  assert.ok(silent.line.destroyed)
  const mad = connected()
  mad.line.on("error", () => undefined)
  mad.line.say("+OK\r\n")
  await until(() => mad.line.destroyed)
})

test("all calls of a packet that ask for the time ask once", async () => {
  const { line, wire } = connected()
  const [a, b] = [new Noted(["a"]), new Noted(["b"])]
  wire.beginTimed(a)
  wire.beginTimed(b)
  await until(() => line.written.length === 1)
  assert.equal(line.written[0]?.split("TIME").length, 2)
  line.say("*2\r\n$2\r\n12\r\n$6\r\n345999\r\n$1\r\nA\r\n$1\r\nB\r\n")
  await until(() => b.ends.length === 1)
  assert.deepEqual([a.time?.nowMs, b.time?.nowMs], [12_345, 12_345])
  line.destroy()
})
