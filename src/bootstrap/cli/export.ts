import type { Config } from "../../config/schema.ts"
import type { Counts } from "../../domain/archive/format.ts"
import { exportTenant } from "../../domain/archive/move-tenant.ts"
import { systemScope, type TenantId } from "../../domain/kernel/scope.ts"
import { uuid7 } from "../../domain/kernel/uuid7.ts"
import { openArchives } from "../engines/archives.ts"
import type { OpenEngine } from "../engines/engine.ts"
import { blame, openEngines } from "../engines/open.ts"
import { version } from "../version.ts"
import { openOutput } from "./archive-file.ts"
import { EXIT } from "./exit-codes.ts"

/** Writes everything of a tenant but its cache to `file`, or to standard output. */
export async function exportArchive(
  config: Config,
  tenant: TenantId,
  file: string | undefined,
): Promise<number> {
  const engines = await openEngines(config)
  try {
    await requireSchema(config, engines)
    const { archives } = await openArchives(config, engines)
    const output = await openOutput(file)
    let failure: { readonly error: unknown } | undefined
    const put = (text: string) =>
      output.put(text).catch((error: unknown) => {
        failure = { error }
        throw error
      })
    const about = { id: uuid7(), createdMs: Date.now(), software: version() }
    try {
      const counts = await exportTenant(systemScope(tenant), archives, about, put)
      await output.done()
      process.stderr.write(`tenant ${tenant} exported: ${summary(counts)}; its cache stays behind\n`)
    } catch (error) {
      await output.drop()
      // A disk that is full says so itself.
      throw failure?.error ?? error
    }
  } finally {
    await Promise.all(engines.map((engine) => engine.close()))
  }
  return EXIT.ok
}

/** Changes nothing, and so needs every store's schema to be the one of this version. */
async function requireSchema(config: Config, engines: readonly OpenEngine[]): Promise<void> {
  for (const { name, stores, schema } of engines) {
    const missing = await schema?.migrate({ dryRun: true }).catch((cause: unknown) => {
      throw blame(config, stores, cause)
    })
    if (missing !== undefined && missing.length > 0) {
      throw new Error(
        `the schema of ${name} is older than this program; run keelplane migrate first, or export with the version that wrote it`,
      )
    }
  }
}

/** Counts as text. */
export function summary(counts: Counts): string {
  const parts = Object.entries(counts).map(([kind, count]) => `${count} ${kind}`)
  return parts.length === 0 ? "nothing" : parts.join(", ")
}
