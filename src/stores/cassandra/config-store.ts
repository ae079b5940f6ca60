/** Versioned configuration in Cassandra: one log of changes for each tenant. */
import type { ConfigValue, ConfigVersion } from "../../domain/control/model.ts"
import type { ConfigStore, ConfigWrite } from "../../domain/control/ports.ts"
import type { AuditStore } from "../../domain/event/audit-ports.ts"
import { checkEventText } from "../../domain/event/event-json.ts"
import type { Clock } from "../../domain/kernel/clock.ts"
import { type CallScope, PLATFORM_TENANT, systemScope, type TenantId } from "../../domain/kernel/scope.ts"
import { requireLive } from "../../domain/kernel/wake-ups.ts"
import { type ConfigItem, configPolicy } from "./config-append.ts"
import { ConfigIndex } from "./config-index.ts"
import { ConfigReads } from "./config-read.ts"
import type { Cluster } from "./database.ts"
import { SegmentLog } from "./segment-log.ts"

/** What {@link createCassandraConfigStore} is made of. */
export interface CassandraConfigStoreOptions {
  readonly cql: Cluster
  readonly clock: Clock
  /** Where changes are recorded. It may be on another engine: each change is owed a record until it has one. */
  readonly audit: AuditStore
  /** Told of the keys that were changed: at least once for each change, and until then it is owed like the record. */
  readonly changed?: ((scope: CallScope, keys: readonly string[]) => Promise<void>) | undefined
  /** Tenants that may be written for at once. Default 64. */
  readonly concurrency?: number | undefined
  /** Changes after which a log goes on in another partition. Default 1,000. */
  readonly segmentChanges?: number | undefined
}

/** A {@link ConfigStore} that can make up for daemons that died. */
export interface CassandraConfigStore extends ConfigStore {
  /**
   * Files and audits changes that a daemon has left without; of all tenants with the platform's scope. The next change of a
   * tenant does the same. Answers how many.
   */
  repair(scope: CallScope): Promise<number>
}

const CONCURRENCY = 64
const SEGMENT_CHANGES = 1_000
const GROUP_ITEMS = 100

/** A {@link ConfigStore} over `cql`. */
export function createCassandraConfigStore(options: CassandraConfigStoreOptions): CassandraConfigStore {
  const { cql, clock, audit, changed, concurrency = CONCURRENCY, segmentChanges = SEGMENT_CHANGES } = options
  const index = new ConfigIndex({ cql, audit, changed, now: () => clock.now() })
  const log: SegmentLog<ConfigItem, ConfigVersion> = new SegmentLog({
    cql,
    clock,
    table: { name: "config_log" },
    policy: configPolicy({ index, rows: () => log.rows, segmentChanges: BigInt(segmentChanges) }),
    maxItems: GROUP_ITEMS,
    concurrency,
  })
  const reads = new ConfigReads(log.rows, index)
  const change = async (
    scope: CallScope,
    action: ConfigItem["action"],
    what: Change,
  ): Promise<ConfigVersion> => {
    requireLive(scope)
    const { key, value, version, write } = what
    checkEventText(key, "key")
    checkEventText(write.description, "description")
    return log.append(scope, {
      idempotency: scope.idempotency,
      key,
      action,
      value,
      version,
      ifVersion: write.ifVersion,
      description: write.description,
      author: scope.actor,
      bytes: bytesOf(value),
    })
  }
  return {
    put: (scope, key, value, write) => change(scope, "PutConfig", { key, value, write }),
    rollback: (scope, key, version, write) => change(scope, "RollbackConfig", { key, version, write }),
    delete: (scope, key, write) => change(scope, "DeleteConfig", { key, write }),
    get: (scope, key, at) => reads.get(scope, key, at),
    listVersions: (scope, key, withValues, page) => reads.listVersions(scope, key, withValues, page),
    list: (scope, prefix, withValues, page) => reads.list(scope, prefix, withValues, page),
    lastSequence: (scope) => reads.lastSequence(scope),
    snapshot: (scope, target, sequence, afterKey, limit) =>
      reads.snapshot(scope, target, sequence, afterKey, limit),
    changes: (scope, target, sequence, limit) => reads.changes(scope, target, sequence, limit),
    repair: (scope) => repair(cql, log, scope),
  }
}

interface Change {
  readonly key: string
  readonly value?: ConfigValue
  readonly version?: bigint
  readonly write: ConfigWrite
}

async function repair(
  cql: Cluster,
  log: SegmentLog<ConfigItem, ConfigVersion>,
  scope: CallScope,
): Promise<number> {
  if (scope.tenant !== PLATFORM_TENANT) return log.repair(scope)
  let repaired = 0
  const tenants = cql.pages<{ tenant: TenantId }>(scope, {
    cql: "select distinct tenant from config_log_segments",
  })
  for await (const page of tenants) {
    for (const { tenant } of page) repaired += await log.repair(systemScope(tenant, scope.signal))
  }
  return repaired
}

const CHANGE_BYTES = 1_024

function bytesOf(value: ConfigValue | undefined): number {
  if (value === undefined) return CHANGE_BYTES
  if (value.kind === "bytes") return CHANGE_BYTES + value.bytes.length
  return CHANGE_BYTES + Buffer.byteLength(JSON.stringify(value.struct))
}
