/** A page of keys in their order, found in one pass without sorting all of them. */
import type { CacheKeyInfo } from "../../domain/cache/model.ts"
import type { Page, PageRequest } from "../../domain/kernel/paging.ts"
import type { Entry } from "./entry.ts"
import type { Space } from "./space.ts"

/** The smallest live keys with the prefix after the cursor, which is the last key of the page before. */
export function pageOfKeys(
  space: Space,
  prefix: string,
  page: PageRequest,
  nowMs: number,
): Page<CacheKeyInfo> {
  const after = page.cursor?.[0]
  const wanted = page.size + 1
  let found: Entry[] = []
  let ceiling: string | undefined
  for (const entry of space.entries.values()) {
    const { key } = entry
    if ((after !== undefined && key <= after) || (ceiling !== undefined && key >= ceiling)) continue
    if (!key.startsWith(prefix) || !entry.isLive(nowMs)) continue
    found.push(entry)
    if (found.length >= 4 * wanted) {
      found = smallest(found, wanted)
      ceiling = found.at(-1)?.key
    }
  }
  found = smallest(found, wanted)
  const items = found.slice(0, page.size).map(({ key, kind, revision, expireTimeMs, bytes }) => {
    return { key, kind, revision, expireTimeMs, bytes }
  })
  const last = items.at(-1)
  return { items, next: found.length > page.size && last !== undefined ? [last.key] : undefined }
}

function smallest(entries: Entry[], count: number): Entry[] {
  return entries.sort((left, right) => (left.key < right.key ? -1 : 1)).slice(0, count)
}
