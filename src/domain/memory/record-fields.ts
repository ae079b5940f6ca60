/** What a filter over records looks at, for engines that leave some of it to the daemon. */
import { type FieldValue, type Filter, matchesFilter } from "../kernel/filter/index.ts"
import type { MemoryRecord, RecordParts } from "./model.ts"

/** The parts that must be read so that {@link recordMatches} can decide. */
export function partsForFilter(filter: Filter): RecordParts {
  const fields = new Set<string>()
  collect(filter, fields)
  return { text: fields.has("text"), metadata: fields.has("metadata"), vector: false }
}

function collect(filter: Filter, fields: Set<string>): void {
  switch (filter.kind) {
    case "and":
    case "or":
      for (const term of filter.terms) collect(term, fields)
      break
    case "not":
      collect(filter.term, fields)
      break
    default:
      fields.add(filter.ref.field)
  }
}

/** The parts that either asks for. */
export function unionParts(a: RecordParts, b: RecordParts): RecordParts {
  return { text: a.text || b.text, metadata: a.metadata || b.metadata, vector: a.vector || b.vector }
}

/** The record with no more than these parts. */
export function withParts(record: MemoryRecord, parts: RecordParts): MemoryRecord {
  return {
    ...record,
    text: parts.text ? record.text : undefined,
    metadata: parts.metadata ? record.metadata : undefined,
    vector: parts.vector ? record.vector : undefined,
  }
}

/** Whether the record satisfies the filter. It must have the parts of {@link partsForFilter}. */
export function recordMatches(filter: Filter | undefined, record: MemoryRecord): boolean {
  return filter === undefined || matchesFilter(filter, (field) => fieldOf(record, field))
}

function fieldOf(record: MemoryRecord, field: string): FieldValue {
  switch (field) {
    case "id":
      return record.id
    case "text":
      return record.text
    case "metadata":
      return record.metadata
    case "revision":
      return record.revision
    case "create_time":
      return record.createTimeMs
    case "update_time":
      return record.updateTimeMs
    case "expire_time":
      return record.expireTimeMs
    default:
      throw new Error(`the filter field ${field} has no value`)
  }
}
