/** What configuration is found by: the newest version of each key, and all versions of one. Made from the log, after it. */
import { createHash } from "node:crypto"
import type { AuditEntry } from "../../domain/event/audit-model.ts"
import { AUDIT_FILTER_FIELDS, type AuditStore } from "../../domain/event/audit-ports.ts"
import { parseFilter } from "../../domain/kernel/filter/index.ts"
import { type CallScope, scopeWith } from "../../domain/kernel/scope.ts"
import { type ConfigChange, type ConfigPlace, changeOf, placeOf } from "./config-rows.ts"
import type { Cluster } from "./database.ts"
import type { LogRow } from "./segment-rows.ts"

const PLACE = "key, version, seq, segment, deleted, create_time"
const METHOD = "keelplane.config/RecordAudit"
/** Stores remember a request_id for a day. Changes that are older than half of it are looked for in the audit log first. */
const REMEMBERED_MS = 12 * 3_600_000

/** Where in the log rows are. */
export interface LogPlace {
  readonly segment: string
  readonly beganMs: number
}

/** What a {@link ConfigIndex} is made of. */
export interface ConfigIndexDeps {
  readonly cql: Cluster
  readonly audit: AuditStore
  readonly changed?: ((scope: CallScope, keys: readonly string[]) => Promise<void>) | undefined
  now(): number
}

/** Reads and writes the tables beside the log. */
export class ConfigIndex {
  readonly #deps: ConfigIndexDeps
  readonly #cql: Cluster

  constructor(deps: ConfigIndexDeps) {
    this.#deps = deps
    this.#cql = deps.cql
  }

  /** Files changes, has them audited, and tells of them; again where it was done before, to the same effect. */
  async file(scope: CallScope, log: LogPlace, rows: readonly LogRow[]): Promise<void> {
    for (const row of rows) {
      const change = changeOf(row)
      await Promise.all([
        placeChange(this.#cql, scope, placeOf(change.config, log.segment), log.beganMs),
        this.#record(scope, change, log.beganMs, createHash("sha256").update(row.body).digest()),
      ])
    }
    const keys = new Set(rows.map((row) => changeOf(row).config.key))
    await this.#deps.changed?.(scope, [...keys])
  }

  /** By the log's beginning, too: a tenant of the same name has begun anew where one was erased, and the audit log has both. */
  async #record(
    scope: CallScope,
    { config, action }: ConfigChange,
    beganMs: number,
    bodyHash: Uint8Array,
  ): Promise<void> {
    const { author, key, createTime: timeMs, sequence } = config
    const id = recordId(scope.tenant, beganMs, sequence)
    const entry: AuditEntry = {
      id,
      actor: author,
      action,
      resourceType: "config",
      resourceId: key,
      outcome: "success",
      timeMs,
    }
    if (this.#deps.now() - timeMs > REMEMBERED_MS && (await this.#isRecorded(scope, id, timeMs))) return
    const idempotency = { method: METHOD, requestId: `${beganMs}.${sequence}`, bodyHash }
    await this.#deps.audit.record(scopeWith(scope, { idempotency }), [entry])
  }

  async #isRecorded(scope: CallScope, id: string, timeMs: number): Promise<boolean> {
    const filter = parseFilter(`record_id = "${id}"`, AUDIT_FILTER_FIELDS)
    const query = { startMs: timeMs, endMs: timeMs + 1, filter }
    return (await this.#deps.audit.query(scope, query, { size: 1 })).items.length > 0
  }

  /** The newest versions of keys. */
  heads(scope: CallScope, keys: readonly string[]): Promise<readonly ConfigPlace[]> {
    return this.#cql.read<ConfigPlace>(scope, {
      cql: `select ${PLACE} from config_heads where tenant = ? and key in ?`,
      values: [scope.tenant, keys],
    })
  }

  /** The newest versions of all keys after one, by key. */
  async *keys(scope: CallScope, prefix: string, after: string): AsyncGenerator<ConfigPlace> {
    const pages = this.#cql.pages<ConfigPlace>(scope, {
      cql: `select ${PLACE} from config_heads where tenant = ? and key ${after < prefix ? ">=" : ">"} ?`,
      values: [scope.tenant, after < prefix ? prefix : after],
    })
    for await (const page of pages) {
      for (const place of page) {
        if (!place.key.startsWith(prefix)) return
        yield place
      }
    }
  }

  /** One version of a key. */
  async version(scope: CallScope, key: string, version: bigint): Promise<ConfigPlace | undefined> {
    const [place] = await this.#cql.read<ConfigPlace>(scope, {
      cql: `select ${PLACE} from config_versions where tenant = ? and key = ? and version = ?`,
      values: [scope.tenant, key, version],
    })
    return place
  }

  /** A key's versions before one, newest first. */
  async *versions(scope: CallScope, key: string, before: bigint): AsyncGenerator<ConfigPlace> {
    const pages = this.#cql.pages<ConfigPlace>(scope, {
      cql: `select ${PLACE} from config_versions where tenant = ? and key = ? and version < ?`,
      values: [scope.tenant, key, before],
    })
    for await (const page of pages) yield* page
  }
}

/** Files a change, without a word to the audit log. */
export async function placeChange(
  cql: Cluster,
  scope: CallScope,
  place: ConfigPlace,
  beganMs: number,
): Promise<void> {
  const { key, version, seq, segment, deleted, create_time } = place
  const values = [scope.tenant, key, version, seq, segment, deleted, create_time]
  await cql.write(scope, {
    cql: `insert into config_versions (tenant, ${PLACE}) values (?, ?, ?, ?, ?, ?, ?)`,
    values,
  })
  await cql.write(scope, {
    cql: `insert into config_heads (tenant, ${PLACE}) values (?, ?, ?, ?, ?, ?, ?) using timestamp ?`,
    values: [...values, BigInt(beganMs) * 1_000n + seq],
  })
}

/** The same for every repetition: a uuid of its own kind (8) made of the tenant and the change's number. */
function recordId(tenant: string, beganMs: number, sequence: bigint): string {
  const hex = createHash("sha256").update(`${tenant} ${beganMs} ${sequence}`).digest("hex")
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`
}
