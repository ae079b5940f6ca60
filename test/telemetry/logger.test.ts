import assert from "node:assert/strict"
import { test } from "node:test"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import { createLogger, type LogOptions } from "../../src/telemetry/logger.ts"

function capture(format: LogOptions["format"], level: LogOptions["level"] = "info") {
  const lines: string[] = []
  const logger = createLogger({ level, format }, { write: (line: string) => lines.push(line) })
  return { logger, lines }
}

test("a line is JSON with the listed fields and no others", () => {
  const { logger, lines } = capture("json")
  logger.info({ method: "a.B/C", payload: "canary", metadata: { secret: "canary" } }, "a sentence")
  const line = JSON.parse(lines[0] ?? "") as Record<string, unknown>
  assert.deepEqual(Object.keys(line).sort(), ["level", "message", "method", "time"])
  assert.equal(line.message, "a sentence")
})

test("messages of foreign errors stay out, ours and the runtime's get in, causes are followed", () => {
  const { logger, lines } = capture("json")
  const driver = Object.assign(new Error("duplicate key value (canary)"), { code: "23505" })
  logger.error({ err: new DomainError("INTERNAL", "our words", { cause: driver }) }, "failed")
  const text = lines.join("")
  assert.doesNotMatch(text, /canary/)
  assert.match(text, /our words/)
  assert.match(text, /23505/)
  assert.match(text, /logger\.test/)
  let parse: unknown
  try {
    JSON.parse("canary")
  } catch (error) {
    parse = error
  }
  logger.error({ err: parse }, "failed")
  assert.doesNotMatch(lines.join(""), /canary/)
})

test("a thrown thing that is no error is described by its type", () => {
  const { logger, lines } = capture("json")
  logger.error({ err: "canary" }, "failed")
  assert.doesNotMatch(lines.join(""), /canary/)
})

test("people get one readable line", () => {
  const { logger, lines } = capture("pretty")
  logger.warn({ store: "events" }, "the store does not answer")
  assert.match(lines[0] ?? "", /^\d\d:\d\d:\d\d\.\d{3} WARN {2}the store does not answer store=events\n$/)
})

test("lines below the level are not written", () => {
  const { logger, lines } = capture("json", "error")
  logger.info({}, "no")
  logger.warn({}, "no")
  logger.error({}, "yes")
  assert.equal(lines.length, 1)
})
