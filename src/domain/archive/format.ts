/**
 * The format: a line that says what this is, a line for each item, a line that says how many there were and what they hash to.
 * A file without its last line, or with another hash, was cut short or changed.
 */
import { createHash } from "node:crypto"
import { DomainError } from "../kernel/errors.ts"
import type { JsonObject, JsonValue } from "../kernel/json.ts"
import { parseTenantId, type TenantId } from "../kernel/scope.ts"
import { decodeItem, encodeItem, malformed } from "./codec.ts"
import type { Item, Kind } from "./model.ts"

/** The version that is written, and the only one that is read. */
export const FORMAT_VERSION = 1

const FORMAT = "keelplane tenant archive"

/** The first line. */
export interface ArchiveHeader {
  /** Another one for each export. */
  readonly id: string
  readonly tenant: TenantId
  /** Milliseconds since the epoch. */
  readonly createdMs: number
  /** The daemon's version. */
  readonly software: string
  /** The engine of each plane that it was read from. */
  readonly engines: Readonly<Record<string, string>>
}

/** How many items of each kind. */
export type Counts = Readonly<Record<string, number>>

/** Writes lines. `put` takes text with its line ends. */
export class ArchiveWriter {
  readonly #put: (text: string) => Promise<void>
  readonly #hash = createHash("sha256")
  readonly #counts: Record<string, number> = {}

  constructor(put: (text: string) => Promise<void>) {
    this.#put = put
  }

  /** The first line. */
  header({ id, tenant, createdMs, software, engines }: ArchiveHeader): Promise<void> {
    const createTime = new Date(createdMs).toISOString()
    return this.#line(
      JSON.stringify({ format: FORMAT, version: FORMAT_VERSION, id, tenant, createTime, software, engines }),
    )
  }

  /** A line for each item. */
  async items(kind: Kind, items: readonly Item[]): Promise<void> {
    if (items.length === 0) return
    this.#counts[kind] = (this.#counts[kind] ?? 0) + items.length
    await this.#line(items.map((item) => encodeItem(kind, item)).join("\n"))
  }

  /** The last line. */
  async footer(): Promise<Counts> {
    const footer = { end: true, counts: this.#counts, sha256: this.#hash.copy().digest("hex") }
    await this.#put(`${JSON.stringify(footer)}\n`)
    return this.#counts
  }

  #line(text: string): Promise<void> {
    const line = `${text}\n`
    this.#hash.update(line)
    return this.#put(line)
  }
}

/** Lines of bytes, without their ends; the last one may lack it. */
export type Lines = AsyncIterable<Buffer>

/** Reads an archive to its end without keeping it, and answers what it is. Rejects with FAILED_PRECONDITION where it is not whole. */
export async function verifyArchive(
  lines: Lines,
): Promise<{ readonly header: ArchiveHeader; readonly counts: Counts }> {
  const hash = createHash("sha256")
  const counts: Record<string, number> = {}
  let header: ArchiveHeader | undefined
  let footer: JsonObject | undefined
  let number = 0
  for await (const bytes of lines) {
    number++
    if (footer !== undefined) throw malformed(number, "comes after the end")
    const line = parse(bytes, number)
    if (header === undefined) header = headerOf(line)
    else if (line.end === true) {
      footer = line
      continue
    } else {
      const { kind } = decodeItem(line, number)
      counts[kind] = (counts[kind] ?? 0) + 1
    }
    hash.update(bytes).update("\n")
  }
  if (header === undefined) throw notAnArchive()
  if (footer === undefined) {
    throw new DomainError(
      "FAILED_PRECONDITION",
      `the archive is cut short after ${number} lines; nothing was imported, export it again`,
    )
  }
  if (footer.sha256 !== hash.digest("hex") || !sameCounts(footer.counts, counts)) {
    throw new DomainError(
      "FAILED_PRECONDITION",
      "the archive was changed or damaged: its lines are not those that its last line tells of; nothing was imported",
    )
  }
  return { header, counts }
}

/** Items of an archive that was verified, as they come. */
export async function* archiveItems(
  lines: Lines,
): AsyncGenerator<{ readonly kind: Kind; readonly item: Item; readonly bytes: number }> {
  let number = 0
  for await (const bytes of lines) {
    if (++number === 1) continue
    const line = parse(bytes, number)
    if (line.end === true) return
    yield { ...decodeItem(line, number), bytes: bytes.length }
  }
}

function parse(bytes: Buffer, number: number): JsonObject {
  let line: JsonValue
  try {
    line = JSON.parse(bytes.toString("utf8")) as JsonValue
  } catch {
    throw number === 1
      ? notAnArchive()
      : malformed(number, "is no JSON; the file is cut short or was changed")
  }
  if (typeof line !== "object" || line === null || Array.isArray(line)) {
    throw number === 1 ? notAnArchive() : malformed(number, "is no JSON object")
  }
  return line
}

function headerOf(line: JsonObject): ArchiveHeader {
  const { format, version, id, tenant, createTime, software, engines } = line
  if (format !== FORMAT) throw notAnArchive()
  if (version !== FORMAT_VERSION) {
    throw new DomainError(
      "FAILED_PRECONDITION",
      `the archive has format version ${String(version)}, this program reads version ${FORMAT_VERSION}`,
      { metadata: { version: String(version) } },
    )
  }
  const parsed = typeof tenant === "string" ? parseTenantId(tenant) : undefined
  if (parsed === undefined || typeof id !== "string" || id === "") throw malformed(1, "names no tenant")
  return {
    id,
    tenant: parsed,
    createdMs: Date.parse(String(createTime)),
    software: String(software),
    engines: Object.fromEntries(
      Object.entries((engines ?? {}) as JsonObject).map(([plane, engine]) => [plane, String(engine)]),
    ),
  }
}

function notAnArchive(): DomainError {
  return new DomainError("FAILED_PRECONDITION", "this is no archive of a tenant")
}

function sameCounts(claimed: JsonValue | undefined, found: Counts): boolean {
  if (typeof claimed !== "object" || claimed === null || Array.isArray(claimed)) return false
  const kinds = new Set([...Object.keys(claimed), ...Object.keys(found)])
  return [...kinds].every((kind) => claimed[kind] === found[kind])
}
