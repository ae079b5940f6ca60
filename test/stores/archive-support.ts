/** Archives of a tenant in memory. */
import { randomUUID } from "node:crypto"
import { type ArchiveHeader, type Lines, verifyArchive } from "../../src/domain/archive/format.ts"
import { exportTenant, importTenant } from "../../src/domain/archive/move-tenant.ts"
import type { Archive, ImportMarks } from "../../src/domain/archive/ports.ts"
import { systemScope, type TenantId } from "../../src/domain/kernel/scope.ts"
import { createImportMarks, createSqlArchive } from "../../src/stores/postgres/archive.ts"
import { createSqlMemoryArchive } from "../../src/stores/postgres/archive-memory.ts"
import type { SqlEngine } from "../../src/stores/postgres/index.ts"

/** The stores of one mix. */
export interface Place {
  readonly archives: readonly Archive[]
  readonly marks: ImportMarks
}

/** Everything in one database, or with other archives for planes that are elsewhere. */
export function sqlPlace(engine: SqlEngine, elsewhere: readonly Archive[] = []): Place {
  const archives: readonly Archive[] = [
    createSqlMemoryArchive(engine),
    ...(["streams", "sessions", "audit", "configs", "jobs", "control"] as const).map((plane) =>
      createSqlArchive(engine, plane),
    ),
  ]
  return {
    archives: archives.map((archive) => elsewhere.find(({ plane }) => plane === archive.plane) ?? archive),
    marks: createImportMarks(engine.database),
  }
}

/** An archive's lines. */
export async function exported(place: Place, tenant: TenantId): Promise<string[]> {
  let text = ""
  const about = { id: randomUUID(), createdMs: Date.now(), software: "test" }
  await exportTenant(systemScope(tenant), place.archives, about, async (part) => {
    text += part
  })
  return text.trimEnd().split("\n")
}

/** Lines as a file has them. */
export async function* linesOf(lines: readonly string[]): AsyncGenerator<Buffer> {
  for (const line of lines) yield Buffer.from(line)
}

/** Verifies and imports; answers notes. `cut` gives other lines to the import than to the check. */
export async function imported(
  place: Place,
  lines: readonly string[],
  cut: (lines: Lines) => Lines = (all) => all,
): Promise<readonly string[]> {
  const { header } = await verifyArchive(linesOf(lines))
  return importTenant(systemScope(header.tenant), place.archives, place.marks, header, cut(linesOf(lines)))
}

/** The items of an archive, ordered: engines may list kinds in other orders than others, but have the same in them. */
export function itemsIn(lines: readonly string[]): readonly string[] {
  return lines.slice(1, -1).toSorted()
}

/** The first line. */
export function headerIn(lines: readonly string[]): ArchiveHeader {
  return JSON.parse(lines[0] ?? "") as ArchiveHeader
}
