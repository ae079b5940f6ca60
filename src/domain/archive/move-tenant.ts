/** Moving a tenant: all of it into an archive, and an archive into stores that have nothing of it yet. */
import { DomainError } from "../kernel/errors.ts"
import type { CallScope } from "../kernel/scope.ts"
import { type ArchiveHeader, ArchiveWriter, archiveItems, type Counts, type Lines } from "./format.ts"
import type { Item, Kind } from "./model.ts"
import type { Archive, ImportMarks } from "./ports.ts"

/**
 * Writes the scope's tenant to `put`. Rejects with FAILED_PRECONDITION where work for the tenant is under way that the archive could
 * not have, and with NOT_FOUND where there is nothing of it.
 */
export async function exportTenant(
  scope: CallScope,
  archives: readonly Archive[],
  about: Omit<ArchiveHeader, "tenant" | "engines">,
  put: (text: string) => Promise<void>,
): Promise<Counts> {
  const { tenant } = scope
  const unfinished = (await Promise.all(archives.map((archive) => archive.unfinished(scope)))).flat()
  if (unfinished.length > 0) {
    throw new DomainError(
      "FAILED_PRECONDITION",
      `tenant "${tenant}" has work under way: ${unfinished.join("; ")}. Let the daemon finish it, stop the daemon, and export again`,
      { metadata: { resource: "tenant", name: tenant } },
    )
  }
  const writer = new ArchiveWriter(put)
  const engines = Object.fromEntries(archives.map(({ plane, engine }) => [plane, engine]))
  await writer.header({ ...about, tenant, engines })
  let any = false
  for (const archive of archives) {
    await archive.read(scope, (kind, items) => {
      any ||= items.length > 0
      return writer.items(kind, items)
    })
  }
  if (!any) {
    throw new DomainError("NOT_FOUND", `tenant "${tenant}" does not exist and has left nothing behind`, {
      metadata: { resource: "tenant", name: tenant },
    })
  }
  return writer.footer()
}

/** Most items that are written together, and about the most bytes of their lines. */
const BATCH_ITEMS = 500
const BATCH_BYTES = 4_194_304

/**
 * Writes an archive that was verified. The tenant becomes visible with the last item. Rejects with FAILED_PRECONDITION where there is
 * something of the tenant already, unless it is from an interrupted import of this very archive, which goes on.
 * @returns notes for people.
 */
export async function importTenant(
  scope: CallScope,
  archives: readonly Archive[],
  marks: ImportMarks,
  header: ArchiveHeader,
  lines: Lines,
): Promise<readonly string[]> {
  const begun = await marks.begun(scope)
  if (begun === undefined) await requireEmpty(scope, archives)
  await marks.begin(scope, header.id)
  let batch: Item[] = []
  let bytes = 0
  let current: Kind | undefined
  const notes: string[] = []
  // Each plane is complete before the next one begins, so that the tenant is complete when it becomes visible.
  const rest = [...archives]
  const finishBefore = async (archive: Archive | undefined) => {
    while (rest.length > 0 && rest[0] !== archive) notes.push(...((await rest.shift()?.finish(scope)) ?? []))
  }
  const flush = async () => {
    if (current !== undefined && batch.length > 0) {
      const archive = archiveFor(rest, current)
      await finishBefore(archive)
      await archive.write(scope, current, batch)
    }
    batch = []
    bytes = 0
  }
  for await (const { kind, item, bytes: size } of archiveItems(lines)) {
    if (kind !== current || batch.length >= BATCH_ITEMS || bytes + size > BATCH_BYTES) await flush()
    current = kind
    batch.push(item)
    bytes += size
  }
  await flush()
  await finishBefore(undefined)
  await marks.end(scope)
  return notes
}

async function requireEmpty(scope: CallScope, archives: readonly Archive[]): Promise<void> {
  const held = await Promise.all(
    archives.map(async (archive) => ((await archive.holds(scope)) ? [archive.plane] : [])),
  )
  const planes = held.flat()
  if (planes.length === 0) return
  throw new DomainError(
    "FAILED_PRECONDITION",
    `tenant "${scope.tenant}" is not empty here: there is something of it in ${planes.join(", ")}; nothing was imported`,
    { metadata: { resource: "tenant", name: scope.tenant, planes: planes.join(",") } },
  )
}

function archiveFor(archives: readonly Archive[], kind: Kind): Archive {
  const archive = archives.find(({ kinds }) => kinds.includes(kind))
  if (archive === undefined) throw malformed(kind)
  return archive
}

function malformed(kind: Kind): DomainError {
  return new DomainError("FAILED_PRECONDITION", `the archive is damaged: its ${kind} items are out of place`)
}
