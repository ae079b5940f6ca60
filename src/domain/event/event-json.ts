/** JSON documents of events and sessions: encoded once, checked on the way, merged by RFC 7396. */
import { invalidField, limitExceeded } from "../kernel/errors.ts"
import type { JsonObject, JsonValue } from "../kernel/json.ts"

/** Deepest document, counting the object itself. */
export const MAX_JSON_DEPTH = 64

/**
 * The text of a document. Throws INVALID_FIELD naming `field` where it is too deep or has a number that JSON lacks, and
 * LIMIT_EXCEEDED where it has more than `maxBytes`.
 */
export function encodeJson(document: JsonObject, field: string, maxBytes: number): string {
  check(document, field, 1)
  const text = JSON.stringify(document)
  const bytes = Buffer.byteLength(text)
  if (bytes > maxBytes) throw limitExceeded(field, bytes, maxBytes)
  return text
}

function check(value: JsonValue, field: string, depth: number): void {
  if (typeof value === "number") {
    if (!Number.isFinite(value)) throw invalidField(field, "numbers must be finite")
    return
  }
  if (typeof value !== "object" || value === null) return
  if (depth > MAX_JSON_DEPTH) throw invalidField(field, `is nested deeper than ${MAX_JSON_DEPTH} levels`)
  for (const inner of Array.isArray(value) ? value : Object.values(value)) check(inner, field, depth + 1)
}

/** Throws INVALID_FIELD where a name or another text by which things are found cannot be kept unchanged by every engine. */
export function checkEventText(text: string, field: string): void {
  if (text.includes("\0")) throw invalidField(field, "must not contain U+0000")
  if (!text.isWellFormed()) throw invalidField(field, "must be well-formed Unicode")
}

/** The same for every string and key inside a document, where an engine has to look into it. */
export function checkEventJson(value: JsonValue, field: string): void {
  if (typeof value === "string") checkEventText(value, field)
  if (typeof value !== "object" || value === null) return
  for (const [key, inner] of Object.entries(value)) {
    checkEventText(key, field)
    checkEventJson(inner, field)
  }
}

/** A document from its text. */
export function decodeJson(text: string): JsonObject {
  return JSON.parse(text) as JsonObject
}

/** Whether a value is an object in JSON's sense. */
function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value)
}

/** Applies a merge patch (RFC 7396) to `target`, which is changed; neither may be used elsewhere afterwards. */
export function mergePatch(target: JsonObject, patch: JsonObject): void {
  for (const [key, change] of Object.entries(patch)) {
    if (change === null) delete target[key]
    else if (isObject(change)) {
      const current = Object.hasOwn(target, key) ? target[key] : undefined
      const inner = isObject(current) ? current : {}
      mergePatch(inner, change)
      put(target, key, inner)
    } else put(target, key, change)
  }
}

/** Plain assignment of `__proto__` would set the prototype instead of a key. */
function put(target: JsonObject, key: string, value: JsonValue): void {
  if (key === "__proto__") {
    Object.defineProperty(target, key, { value, enumerable: true, configurable: true, writable: true })
  } else target[key] = value
}
