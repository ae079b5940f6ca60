/**
 * A process to be killed: writes numbered rows to the data directory argv[2] and notes each acknowledged one in the file
 * argv[3], from argv[4] on, and tells its parent.
 */
import { appendFileSync } from "node:fs"
import { DEFAULT_TENANT, systemScope } from "../../src/domain/kernel/scope.ts"
import { openEmbedded } from "../../src/stores/postgres/index.ts"

const [, , dataDir, acknowledged, first] = process.argv
if (dataDir === undefined || acknowledged === undefined)
  throw new Error("usage: pglite-writer DIR FILE FIRST")
const engine = await openEmbedded({ dataDir })
await engine.migrate()
const scope = systemScope(DEFAULT_TENANT)
for (let id = Number(first); ; id++) {
  await engine.database.query(scope, {
    name: "test_insert",
    text: `insert into keelplane.idempotency (tenant, method, request_id, operation, body_hash, created_at, expires_at)
      values ($1, 'test', $2, '', $3, now(), now())`,
    values: [scope.tenant, String(id), Buffer.alloc(id % 3000, id)],
  })
  appendFileSync(acknowledged, `${id}\n`)
  process.send?.(id)
}
