/** How configuration changes go into their log. */
import type { ConfigValue, ConfigVersion } from "../../domain/control/model.ts"
import { DomainError, notFound, revisionMismatch } from "../../domain/kernel/errors.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { Outcome } from "../group-commit.ts"
import type { Repeatable } from "./answers.ts"
import type { ConfigIndex } from "./config-index.ts"
import { type ConfigChange, changeOf, rowOf, segmentOf } from "./config-rows.ts"
import type { LogPlan, LogPolicy } from "./segment-log.ts"
import type { LogHead, SegmentRows } from "./segment-rows.ts"

/** One caller's change. */
export interface ConfigItem extends Repeatable {
  readonly key: string
  readonly action: "PutConfig" | "RollbackConfig" | "DeleteConfig"
  /** What a put writes. */
  readonly value?: ConfigValue | undefined
  /** What a rollback goes back to. */
  readonly version?: bigint | undefined
  readonly ifVersion: bigint | undefined
  readonly description: string
  readonly author: string
  readonly bytes: number
}

/** Where a key stands while a group is decided. */
interface KeyState {
  /** The last version, also when that is a deletion. */
  readonly version: bigint
  readonly deleted: boolean
  readonly createTime: number
}

/** What the policy needs of its log. */
export interface ConfigPolicyDeps {
  readonly index: ConfigIndex
  /** The log's own rows; it is made with this policy. */
  rows(): SegmentRows
  /** Changes after which the log goes on in another partition. */
  readonly segmentChanges: bigint
}

/** The policy of the configuration log. */
export function configPolicy(deps: ConfigPolicyDeps): LogPolicy<ConfigItem, ConfigVersion> {
  return {
    operation: ({ action }) => `control.${action}`,
    bytes: ({ bytes }) => bytes,
    segmentFor: ({ segment, last }) =>
      segment !== "" && last - BigInt(segment) + 1n < deps.segmentChanges ? segment : segmentOf(last + 1n),
    // When the log began, by the clock that stamps deletions: what is filed under its changes' numbers comes after what was
    // erased.
    opening: ({ last, meta }) => ({ last, meta: meta === "" ? String(Date.now()) : meta }),
    decide: (scope, head, items, now) => new Decision(deps, scope, head, now).take(items),
    index: (scope, { segment, meta }, rows) =>
      deps.index.file(scope, { segment, beganMs: Number(meta) }, rows),
    confirms: true,
  }
}

/** A group while it is decided, one change after the other. */
class Decision {
  readonly #deps: ConfigPolicyDeps
  readonly #scope: CallScope
  readonly #head: LogHead
  readonly #now: number
  readonly #states = new Map<string, KeyState>()
  readonly #changes: ConfigChange[] = []

  constructor(deps: ConfigPolicyDeps, scope: CallScope, head: LogHead, now: number) {
    this.#deps = deps
    this.#scope = scope
    this.#head = head
    this.#now = now
  }

  async take(items: readonly ConfigItem[]): Promise<LogPlan<ConfigVersion>> {
    const keys = [...new Set(items.map(({ key }) => key))]
    for (const { key, version, deleted, create_time } of await this.#deps.index.heads(this.#scope, keys)) {
      this.#states.set(key, { version, deleted, createTime: create_time.getTime() })
    }
    const outcomes: Outcome<ConfigVersion>[] = []
    for (const item of items) {
      try {
        outcomes.push({ ok: true, value: await this.#decide(item) })
      } catch (error) {
        // The store's own failures fail everybody: what is not known cannot be decided on.
        if (!(error instanceof Refusal)) throw error
        outcomes.push({ ok: false, error: error.reason })
      }
    }
    return { outcomes, rows: this.#changes.map(rowOf), meta: this.#head.meta }
  }

  async #decide(item: ConfigItem): Promise<ConfigVersion> {
    const { key, action, ifVersion } = item
    const state = this.#states.get(key) ?? { version: 0n, deleted: true, createTime: 0 }
    const live = state.deleted ? 0n : state.version
    if (ifVersion !== undefined && ifVersion !== live) {
      throw new Refusal(revisionMismatch("config", key, ifVersion, live))
    }
    if (action === "DeleteConfig" && live === 0n) throw new Refusal(notFound("config", key))
    const value = item.version === undefined ? item.value : await this.#valueAt(key, item.version)
    const config: ConfigVersion = {
      key,
      version: state.version + 1n,
      value,
      deleted: value === undefined,
      description: item.description,
      author: item.author,
      createTime: Math.max(this.#now, state.createTime),
      rollbackOf: item.version ?? 0n,
      sequence: this.#head.last + BigInt(this.#changes.length + 1),
    }
    this.#changes.push({ config, action })
    this.#states.set(key, { version: config.version, deleted: config.deleted, createTime: config.createTime })
    return config
  }

  async #valueAt(key: string, version: bigint): Promise<ConfigValue> {
    const found = await this.#find(key, version)
    if (found === undefined) throw new Refusal(notFound("config_version", `${key}@${version}`))
    if (found.value !== undefined) return found.value
    const message = `version ${version} of "${key}" is a deletion; it has no value`
    const metadata = { resource: "config_version", name: `${key}@${version}`, state: "DELETED" }
    throw new Refusal(new DomainError("FAILED_PRECONDITION", message, { metadata }))
  }

  async #find(key: string, version: bigint): Promise<ConfigVersion | undefined> {
    const made = this.#changes.find(({ config }) => config.key === key && config.version === version)
    if (made !== undefined) return made.config
    const place = await this.#deps.index.version(this.#scope, key, version)
    if (place === undefined) return undefined
    const [row] = await this.#deps.rows().pick(this.#scope, place.segment, [place.seq])
    return row && changeOf(row).config
  }
}

/** What one caller is refused with; the others of the group go on. */
class Refusal extends Error {
  readonly reason: DomainError

  constructor(reason: DomainError) {
    super(reason.message)
    this.reason = reason
  }
}
