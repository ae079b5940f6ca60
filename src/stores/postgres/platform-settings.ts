/** Secrets of the daemon itself, which every daemon on one database must share. */
import { randomBytes } from "node:crypto"
import { DomainError } from "../../domain/kernel/errors.ts"
import { systemScope } from "../../domain/kernel/scope.ts"
import type { Database } from "./database.ts"

/**
 * The secret `name` of `bytes` random bytes, made on first use. Daemons that start together get the same one. Rejects with
 * SCHEMA_MISMATCH when a secret of another length is stored under the name.
 */
export async function getOrCreateSecret(database: Database, name: string, bytes: number): Promise<Buffer> {
  const [, found] = await database.pipeline(systemScope(), [
    {
      text: "insert into keelplane.platform_settings (tenant, key, value) values ('*', $1, $2) on conflict do nothing",
      values: [name, randomBytes(bytes)],
    },
    {
      text: "select value from keelplane.platform_settings where tenant = '*' and key = $1",
      values: [name],
    },
  ])
  const value = found?.rows[0]?.value
  if (!Buffer.isBuffer(value) || value.length !== bytes) {
    throw new DomainError("SCHEMA_MISMATCH", `the platform setting "${name}" does not hold ${bytes} bytes`, {
      metadata: { setting: name },
    })
  }
  return value
}
