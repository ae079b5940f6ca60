import type { Config } from "../../config/schema.ts"
import { verifyArchive } from "../../domain/archive/format.ts"
import { importTenant } from "../../domain/archive/move-tenant.ts"
import { systemScope } from "../../domain/kernel/scope.ts"
import { openArchives } from "../engines/archives.ts"
import { blame, openEngines } from "../engines/open.ts"
import { openInput } from "./archive-file.ts"
import { EXIT } from "./exit-codes.ts"
import { summary } from "./export.ts"

/** Writes the archive in `file`, or from standard input, into the stores of the configuration, whose schema is brought up to date. */
export async function importArchive(config: Config, file: string | undefined): Promise<number> {
  const input = await openInput(file)
  try {
    // First all of it is read: an archive that is not whole changes nothing.
    const { header, counts } = await verifyArchive(input.lines())
    const engines = await openEngines(config)
    try {
      for (const { stores, schema } of engines) {
        await schema?.migrate({ dryRun: false }).catch((cause: unknown) => {
          throw blame(config, stores, cause)
        })
      }
      const { archives, marks } = await openArchives(config, engines)
      const scope = systemScope(header.tenant)
      const notes = await importTenant(scope, archives, marks, header, input.lines())
      for (const note of notes) process.stderr.write(`note: ${note}\n`)
      process.stderr.write(`tenant ${header.tenant} imported: ${summary(counts)}\n`)
    } finally {
      await Promise.all(engines.map((engine) => engine.close()))
    }
  } finally {
    await input.close()
  }
  return EXIT.ok
}
