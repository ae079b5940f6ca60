/** Rules for text that is stored: what PostgreSQL and the other engines can keep unchanged. */
import { invalidField } from "../kernel/errors.ts"
import type { JsonObject, JsonValue } from "../kernel/json.ts"
import { structBytes } from "../kernel/json-size.ts"

/** Largest metadata of a record as JSON text, in UTF-8 bytes. */
export const MAX_METADATA_BYTES = 65_536
/** Largest metadata of a record as google.protobuf.Struct, so that any record fits into an answer. */
export const MAX_METADATA_STRUCT_BYTES = 262_144
/** Deepest metadata of a record, counting the object itself. */
export const MAX_METADATA_DEPTH = 32

/** Throws INVALID_FIELD naming `field` where `text` has a NUL or half a surrogate pair. */
export function checkText(text: string, field: string): void {
  if (text.includes("\0")) throw invalidField(field, "must not contain the NUL character")
  if (!text.isWellFormed()) throw invalidField(field, "must be well-formed Unicode")
}

/** Throws INVALID_FIELD naming `field` where metadata is too large, too deep or holds text that cannot be kept. */
export function checkMetadata(metadata: JsonObject, field: string): void {
  checkValue(metadata, field, 1)
  const bytes = Buffer.byteLength(JSON.stringify(metadata))
  if (bytes > MAX_METADATA_BYTES) {
    throw invalidField(field, `has ${bytes} bytes as JSON, at most ${MAX_METADATA_BYTES} allowed`)
  }
  const encoded = structBytes(metadata)
  if (encoded > MAX_METADATA_STRUCT_BYTES) {
    throw invalidField(
      field,
      `has ${encoded} bytes as a Struct message, at most ${MAX_METADATA_STRUCT_BYTES} allowed; keep long lists as text`,
    )
  }
}

function checkValue(value: JsonValue, field: string, depth: number): void {
  if (typeof value === "string") checkText(value, field)
  if (typeof value === "number" && !Number.isFinite(value)) {
    throw invalidField(field, "numbers must be finite")
  }
  if (typeof value !== "object" || value === null) return
  if (depth > MAX_METADATA_DEPTH)
    throw invalidField(field, `is nested deeper than ${MAX_METADATA_DEPTH} levels`)
  if (Array.isArray(value)) {
    for (const element of value) checkValue(element, field, depth + 1)
    return
  }
  for (const [key, inner] of Object.entries(value)) {
    checkText(key, field)
    checkValue(inner, field, depth + 1)
  }
}
