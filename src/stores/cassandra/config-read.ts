/** Reading configuration: what is filed, and the changes that are so new that they are only in the log. */
import type { ConfigTarget, ConfigVersion } from "../../domain/control/model.ts"
import { notFound } from "../../domain/kernel/errors.ts"
import { compareUtf8 } from "../../domain/kernel/filter/index.ts"
import type { Page, PageRequest } from "../../domain/kernel/paging.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { ConfigIndex } from "./config-index.ts"
import { type ConfigPlace, changeOf, placeOf, segmentOf } from "./config-rows.ts"
import type { LogHead, LogRow, SegmentRows } from "./segment-rows.ts"

/** Most tenants whose last answered sequence is remembered. */
const REMEMBERED = 10_000
const READ_ROWS = 100
const MAX_BIGINT = 9_223_372_036_854_775_807n

/** The log as one read sees it. */
interface View {
  /** The tenant's last change. */
  readonly last: bigint
  /** Changes that are in the log and maybe nowhere else, oldest first. */
  readonly tail: readonly ConfigPlace[]
}

/** Reads of a configuration log and its index. */
export class ConfigReads {
  readonly #rows: SegmentRows
  readonly #index: ConfigIndex
  /** Who was told of a change finds it, on whichever node: the last sequence that was answered, by tenant. */
  readonly #told = new Map<string, bigint>()

  constructor(rows: SegmentRows, index: ConfigIndex) {
    this.#rows = rows
    this.#index = index
  }

  /** See ConfigStore.get. */
  async get(
    scope: CallScope,
    key: string,
    at?: { readonly version: bigint } | { readonly time: number },
  ): Promise<ConfigVersion> {
    const { tail } = await this.#view(scope)
    const own = tail.filter((place) => place.key === key)
    if (at !== undefined && "version" in at) {
      const place =
        own.find(({ version }) => version === at.version) ??
        (await this.#index.version(scope, key, at.version))
      if (place === undefined) throw notFound("config_version", `${key}@${at.version}`)
      return this.#value(scope, place, key)
    }
    const time = at?.time ?? Number.POSITIVE_INFINITY
    const early = (place: ConfigPlace) => place.create_time.getTime() <= time
    let place = own.findLast(early)
    if (place === undefined && at === undefined) [place] = await this.#index.heads(scope, [key])
    if (place === undefined && at !== undefined) {
      for await (const each of this.#index.versions(scope, key, MAX_BIGINT)) {
        if (!early(each)) continue
        place = each
        break
      }
    }
    return this.#value(scope, place, key)
  }

  async #value(scope: CallScope, place: ConfigPlace | undefined, key: string): Promise<ConfigVersion> {
    if (place === undefined || place.deleted) throw notFound("config", key)
    const [found] = await this.#load(scope, [place])
    if (found === undefined) throw notFound("config", key)
    return found
  }

  /** See ConfigStore.listVersions. */
  async listVersions(
    scope: CallScope,
    key: string,
    withValues: boolean,
    page: PageRequest,
  ): Promise<Page<ConfigVersion>> {
    const { tail } = await this.#view(scope)
    const before = page.cursor?.[0] === undefined ? MAX_BIGINT : BigInt(page.cursor[0])
    const places = new Map<bigint, ConfigPlace>()
    for (const place of tail.toReversed()) {
      if (place.key === key && place.version < before) places.set(place.version, place)
    }
    if (places.size <= page.size) {
      for await (const place of this.#index.versions(scope, key, before)) {
        places.set(place.version, place)
        if (places.size > page.size) break
      }
    }
    if (places.size === 0 && page.cursor === undefined) throw notFound("config", key)
    return this.#page(scope, [...places.values()], withValues, page.size, ({ version }) => String(version))
  }

  /** See ConfigStore.list. */
  async list(
    scope: CallScope,
    prefix: string,
    withValues: boolean,
    page: PageRequest,
  ): Promise<Page<ConfigVersion>> {
    const { tail } = await this.#view(scope)
    const places: ConfigPlace[] = []
    for await (const place of this.#keys(scope, { prefix }, tail, page.cursor?.[0] ?? "")) {
      if (!place.deleted) places.push(place)
      if (places.length > page.size) break
    }
    return this.#page(scope, places, withValues, page.size, ({ key }) => key)
  }

  /** See ConfigStore.lastSequence. */
  async lastSequence(scope: CallScope): Promise<bigint> {
    const told = this.#told.get(scope.tenant) ?? 0n
    let last = (await this.#rows.newest(scope, false))?.last ?? 0n
    // An older state of it, or a tenant that was erased and begins anew.
    if (last < told) last = (await this.#rows.newest(scope, true))?.last ?? 0n
    if (this.#told.size >= REMEMBERED) this.#told.clear()
    this.#told.set(scope.tenant, last)
    return last
  }

  /** See ConfigStore.snapshot. */
  async snapshot(
    scope: CallScope,
    target: ConfigTarget,
    sequence: bigint,
    afterKey: string | undefined,
    limit: number,
  ): Promise<readonly ConfigVersion[]> {
    const { tail } = await this.#view(scope, sequence)
    const seen = tail.filter(({ seq }) => seq <= sequence)
    const places: ConfigPlace[] = []
    for await (const newest of this.#keys(scope, target, seen, afterKey ?? "")) {
      const place = newest.seq <= sequence ? newest : await this.#versionAt(scope, newest, sequence)
      if (place !== undefined && !place.deleted) places.push(place)
      if (places.length === limit) break
    }
    return this.#load(scope, places)
  }

  async #versionAt(
    scope: CallScope,
    newest: ConfigPlace,
    sequence: bigint,
  ): Promise<ConfigPlace | undefined> {
    for await (const place of this.#index.versions(scope, newest.key, newest.version)) {
      if (place.seq <= sequence) return place
    }
    return undefined
  }

  /** See ConfigStore.changes. */
  async changes(
    scope: CallScope,
    target: ConfigTarget,
    sequence: bigint,
    limit: number,
  ): Promise<readonly ConfigVersion[]> {
    const found: ConfigVersion[] = []
    for await (const row of this.#log(scope, sequence)) {
      const { config } = changeOf(row)
      if (isIn(target, config.key)) found.push(config)
      if (found.length === limit) break
    }
    return found
  }

  /** Changes after a sequence, at least up to what was told. */
  async *#log(scope: CallScope, sequence: bigint): AsyncGenerator<LogRow> {
    const told = this.#told.get(scope.tenant) ?? 0n
    const [begin] = await this.#rows.segments(scope, {
      newestFirst: true,
      limit: 1,
      to: segmentOf(sequence + 1n),
    })
    let after = sequence
    for (let from = begin?.segment ?? ""; ; ) {
      const segments = await this.#rows.segments(scope, { newestFirst: false, limit: READ_ROWS, from })
      for (const { segment } of segments) {
        for (;;) {
          const rows = await this.#rows.read(scope, segment, after, READ_ROWS, told)
          yield* rows
          after = rows.at(-1)?.seq ?? after
          if (rows.length < READ_ROWS) break
        }
      }
      const last = segments.at(-1)
      if (last === undefined || segments.length < READ_ROWS) return
      from = `${last.segment}\0`
    }
  }

  /** The log now, or later: not before `sequence`. */
  async #view(scope: CallScope, sequence = this.#told.get(scope.tenant) ?? 0n): Promise<View> {
    let head: LogHead | undefined
    for (const serial of [false, true]) {
      head = await this.#rows.newest(scope, serial)
      if ((head?.last ?? 0n) >= sequence) break
    }
    if (head === undefined || head.indexed >= head.last) return { last: head?.last ?? 0n, tail: [] }
    const { segment, indexed, last } = head
    const rows = await this.#rows.read(scope, segment, indexed, Number(last - indexed), last)
    return { last, tail: rows.map((row) => placeOf(changeOf(row).config, segment)) }
  }

  /** The newest version of every key after one, by key, with those that only the log has. */
  async *#keys(
    scope: CallScope,
    target: ConfigTarget,
    tail: readonly ConfigPlace[],
    after: string,
  ): AsyncGenerator<ConfigPlace> {
    const latest = new Map<string, ConfigPlace>()
    for (const place of tail) if (isIn(target, place.key)) latest.set(place.key, place)
    const fresh = [...latest.values()]
      .filter(({ key }) => compareUtf8(key, after) > 0)
      .sort((a, b) => compareUtf8(a.key, b.key))
    const filed =
      "key" in target ? this.#key(scope, target.key, after) : this.#index.keys(scope, target.prefix, after)
    for await (const place of filed) {
      while (fresh[0] !== undefined && compareUtf8(fresh[0].key, place.key) < 0) {
        const next = fresh.shift()
        if (next !== undefined) yield next
      }
      if (fresh[0]?.key !== place.key) yield place
      else {
        const next = fresh.shift()
        yield next !== undefined && next.seq > place.seq ? next : place
      }
    }
    yield* fresh
  }

  async *#key(scope: CallScope, key: string, after: string): AsyncGenerator<ConfigPlace> {
    if (compareUtf8(key, after) > 0) yield* await this.#index.heads(scope, [key])
  }

  async #page(
    scope: CallScope,
    places: readonly ConfigPlace[],
    withValues: boolean,
    size: number,
    cursor: (last: ConfigVersion) => string,
  ): Promise<Page<ConfigVersion>> {
    const found = await this.#load(scope, places.slice(0, size))
    const items = withValues ? found : found.map((config) => ({ ...config, value: undefined }))
    const last = items.at(-1)
    return places.length > size && last !== undefined ? { items, next: [cursor(last)] } : { items }
  }

  /** Versions from their places, in the same order. */
  async #load(scope: CallScope, places: readonly ConfigPlace[]): Promise<readonly ConfigVersion[]> {
    const segments = [...Map.groupBy(places, ({ segment }) => segment)]
    const rows = await Promise.all(
      segments.map(([segment, own]) =>
        this.#rows.pick(
          scope,
          segment,
          own.map(({ seq }) => seq),
        ),
      ),
    )
    const found = new Map(rows.flat().map((row) => [row.seq, row]))
    return places.flatMap(({ seq }) => {
      const row = found.get(seq)
      return row === undefined ? [] : [changeOf(row).config]
    })
  }
}

function isIn(target: ConfigTarget, key: string): boolean {
  return "key" in target ? key === target.key : key.startsWith(target.prefix)
}
