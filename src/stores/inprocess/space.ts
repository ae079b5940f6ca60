/** One tenant's keys in one namespace: look-up, order of use, expiry, tags. */

import type { CacheKind, Namespace } from "../../domain/cache/model.ts"
import { wrongType } from "../../domain/cache/namespaces.ts"
import type { Core, TenantCache } from "./core.ts"
import { type Entry, NO_STAMPS, type TagStamp } from "./entry.ts"

/** See the file's comment. All sizes it changes it reports to its tenant and its core. */
export class Space {
  readonly core: Core
  readonly tenant: TenantCache
  readonly namespace: Namespace
  readonly entries = new Map<string, Entry>()
  bytes = 0
  /** Least recently used. */
  oldest: Entry | undefined
  #newest: Entry | undefined
  readonly #stamps = new Map<string, TagStamp>()
  #sweeping: MapIterator<Entry> | undefined

  constructor(core: Core, tenant: TenantCache, namespace: Namespace) {
    this.core = core
    this.tenant = tenant
    this.namespace = namespace
  }

  /** The live entry of a key, which becomes the most recently used. */
  find(key: string, nowMs: number): Entry | undefined {
    const entry = this.entries.get(key)
    if (entry === undefined) return undefined
    if (entry.expireTimeMs <= nowMs || (entry.stamps !== NO_STAMPS && !entry.isLive(nowMs))) {
      this.remove(entry)
      return undefined
    }
    entry.usedAt = ++this.core.uses
    if (entry !== this.#newest) {
      this.#unlink(entry)
      this.#link(entry)
    }
    return entry
  }

  /** The live entry of a key that must be of `kind` if there is one. */
  findKind(key: string, kind: CacheKind, nowMs: number): Entry | undefined {
    const entry = this.find(key, nowMs)
    if (entry !== undefined && entry.kind !== kind) throw wrongType("cache key", key, entry.kind, kind)
    return entry
  }

  /** Puts an entry under its key, over whatever is there, and counts it. */
  put(entry: Entry): void {
    const before = this.entries.get(entry.key)
    this.core.journal?.note(() => {
      this.#drop(entry)
      if (before !== undefined) this.#add(before)
    })
    if (before !== undefined) this.#leave(before)
    this.#add(entry)
  }

  /** Takes an entry away. */
  remove(entry: Entry): void {
    this.core.journal?.note(() => this.#add(entry))
    this.#drop(entry)
  }

  /** Notes an entry's revision, expiry and size before they change. */
  remember(entry: Entry): void {
    const journal = this.core.journal
    if (journal === undefined) return
    const { revision, expireTimeMs, ttlMs, bytes } = entry
    journal.note(() => {
      entry.revision = revision
      entry.expireTimeMs = expireTimeMs
      entry.ttlMs = ttlMs
      this.resize(entry, bytes)
    })
  }

  /** Changes what an entry counts. */
  resize(entry: Entry, bytes: number): void {
    this.#count(bytes - entry.bytes)
    entry.bytes = bytes
  }

  /** Gives an entry its tags: those of the namespace as they stand now. */
  tag(entry: Entry, tags: readonly string[]): void {
    if (tags.length === 0) return
    entry.tags = [...new Set(tags)]
    entry.stamps = entry.tags.map((tag) => this.#stamp(tag))
  }

  /** Turns the tags' present stamps stale. */
  invalidate(tags: readonly string[]): void {
    for (const tag of tags) {
      const stamp = this.#stamps.get(tag)
      if (stamp === undefined) continue
      stamp.stale = true
      this.#stamps.delete(tag)
    }
  }

  /** Deletes everything; answers how many live keys there were. */
  clear(nowMs: number): number {
    let live = 0
    for (const entry of this.entries.values()) if (entry.isLive(nowMs)) live++
    this.entries.clear()
    this.#stamps.clear()
    this.#newest = undefined
    this.oldest = undefined
    this.#sweeping = undefined
    this.#count(-this.bytes)
    return live
  }

  /** Evicts the least recently used entry. */
  evictOldest(): void {
    if (this.oldest !== undefined) this.#drop(this.oldest)
  }

  /** Looks at up to `limit` more entries, round and round, and frees the dead; answers how many it looked at and freed. */
  sweep(nowMs: number, limit: number): { readonly seen: number; readonly freed: number } {
    let seen = 0
    let freed = 0
    this.#sweeping ??= this.entries.values()
    while (seen < limit) {
      const next = this.#sweeping.next()
      if (next.done === true) {
        this.#sweeping = undefined
        break
      }
      seen++
      if (next.value.isLive(nowMs)) continue
      this.#drop(next.value)
      freed++
    }
    return { seen, freed }
  }

  #stamp(tag: string): TagStamp {
    const known = this.#stamps.get(tag)
    if (known !== undefined) return known
    const made: TagStamp = { tag, stale: false, holders: 0 }
    this.#stamps.set(tag, made)
    return made
  }

  #add(entry: Entry): void {
    this.entries.set(entry.key, entry)
    for (const stamp of entry.stamps) {
      stamp.holders++
      if (!stamp.stale && stamp.holders === 1) this.#stamps.set(stamp.tag, stamp)
    }
    entry.usedAt = ++this.core.uses
    this.#link(entry)
    this.#count(entry.bytes)
  }

  /** Removes the entry from its map and from everything that counts it. */
  #drop(entry: Entry): void {
    this.entries.delete(entry.key)
    this.#leave(entry)
  }

  #leave(entry: Entry): void {
    for (const stamp of entry.stamps) {
      stamp.holders--
      if (stamp.holders === 0 && this.#stamps.get(stamp.tag) === stamp) this.#stamps.delete(stamp.tag)
    }
    this.#unlink(entry)
    this.#count(-entry.bytes)
  }

  #count(bytes: number): void {
    this.bytes += bytes
    this.tenant.bytes += bytes
    this.core.bytes += bytes
  }

  #link(entry: Entry): void {
    entry.older = this.#newest
    entry.newer = undefined
    if (this.#newest === undefined) this.oldest = entry
    else this.#newest.newer = entry
    this.#newest = entry
  }

  #unlink(entry: Entry): void {
    if (entry.older === undefined) this.oldest = entry.newer
    else entry.older.newer = entry.newer
    if (entry.newer === undefined) this.#newest = entry.older
    else entry.newer.older = entry.older
    entry.older = undefined
    entry.newer = undefined
  }
}
