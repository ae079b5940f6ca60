/**
 * PGlite for tests: a fresh, migrated database in memory within about a second. The first call after a change of the
 * migrations makes a template under node_modules/.cache; every later one, in any process, starts from it.
 *
 * A PGlite costs about 200 MB: open one per test file and share it between the suites of that file, each suite with tenants of
 * its own (see {@link freshTenant}).
 */
import { randomUUID } from "node:crypto"
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises"
import type { Clock } from "../../src/domain/kernel/clock.ts"
import { parseTenantId, type TenantId } from "../../src/domain/kernel/scope.ts"
import { type EmbeddedEngine, openEmbedded } from "../../src/stores/postgres/index.ts"
import { migrationsDigest, readMigrations } from "../../src/stores/postgres/migrate.ts"

const CACHE = new URL("../../node_modules/.cache/keelplane/", import.meta.url)

/** A fresh, migrated engine in memory. Close it in `after`. */
export async function embeddedDatabase(options: { readonly clock?: Clock } = {}): Promise<EmbeddedEngine> {
  const digest = migrationsDigest(await readMigrations())
  const file = new URL(`pglite-${digest.slice(0, 32)}.tar`, CACHE)
  const template = (await readTemplate(file)) ?? (await makeTemplate(file))
  const engine = await openEmbedded({ ...options, template, fsync: false })
  await engine.migrate()
  return engine
}

let shared: Promise<EmbeddedEngine> | undefined

/**
 * The one engine of this test file, opened by the first caller. Close it once, after the last suite:
 * `after(async () => (await sharedEmbeddedDatabase()).close())` at the top level of the file.
 */
export function sharedEmbeddedDatabase(): Promise<EmbeddedEngine> {
  shared ??= embeddedDatabase()
  return shared
}

/** A tenant that no other test uses, for suites that share a database. */
export function freshTenant(): TenantId {
  const tenant = parseTenantId(`t-${randomUUID()}`)
  if (tenant === undefined) throw new Error("a generated tenant id is not valid")
  return tenant
}

async function readTemplate(file: URL): Promise<Uint8Array<ArrayBuffer> | undefined> {
  try {
    return new Uint8Array(await readFile(file))
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined
    throw error
  }
}

/** Templates of older migrations; who needs one after all makes it again. */
async function removeTemplates(): Promise<void> {
  for (const name of await readdir(CACHE)) {
    if (/^pglite-[0-9a-f]+\.tar$/.test(name)) await rm(new URL(name, CACHE), { force: true })
  }
}

/** Written under another name first: several test processes may do this at the same time, and the last one wins. */
async function makeTemplate(file: URL): Promise<Uint8Array<ArrayBuffer>> {
  const engine = await openEmbedded({ fsync: false })
  try {
    await engine.migrate()
    const tar = await engine.dump()
    await mkdir(CACHE, { recursive: true })
    await removeTemplates()
    const draft = new URL(`${file.href}.${randomUUID()}`)
    await writeFile(draft, tar)
    await rename(draft, file)
    return tar
  } finally {
    await engine.close()
  }
}
