/** Answers and failures in a form in which two runs can be compared. */
import type { JsonValue } from "@bufbuild/protobuf"
import { CallError } from "../support/grpc-client.ts"

/** Fields that differ between any two runs: times, server-made ids, tokens, hashes, durations. */
const VOLATILE =
  /(time|token|Id|Ids|hash|reference|prefix|revision|sequence|creator|author|actor|day|latency|size|size_?bytes|bytes|data|score|watermark|digest|requestedBy)$/i
const UUID = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g
/** Ids that callers choose, which must be compared. */
const CHOSEN = new Set(["collectionId", "sessionId", "agentId", "userId", "roleId", "budgetId"])

/** Lists that are ordered by ids which the server makes at random. */
const UNORDERED = new Set(["apiKeys"])

function normalised(value: JsonValue, key = ""): JsonValue {
  if (Array.isArray(value)) {
    const all = value.map((each) => normalised(each, key))
    return UNORDERED.has(key) ? all.toSorted((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1)) : all
  }
  if (value !== null && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, normalised(each, name)]))
  }
  if (VOLATILE.test(key) && !CHOSEN.has(key)) return `<${key}>`
  return typeof value === "string" ? value.replace(UUID, "<uuid>") : value
}

/** The answer, or the failure as a caller sees it. */
export async function outcome(work: () => Promise<JsonValue>): Promise<JsonValue> {
  try {
    return { answer: normalised(await work()) }
  } catch (error) {
    if (!(error instanceof CallError)) throw error
    return { code: error.code, reason: error.reason, metadata: normalised({ ...error.metadata }) }
  }
}
