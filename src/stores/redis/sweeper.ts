/** Frees what has expired, been invalidated or been left behind by an eviction, a part at a time, over all tenants. */
import { type CallScope, scopeWith } from "../../domain/kernel/scope.ts"
import { asList, asText } from "./answers.ts"
import type { SpaceCalls, SpaceName } from "./space-calls.ts"
import type { Spaces } from "./spaces.ts"

const PART = 200

/** See the file's comment. */
export class Sweeper {
  readonly #calls: SpaceCalls
  readonly #spaces: Spaces
  /** Where the round through a namespace's tagged keys goes on. */
  readonly #cursors = new Map<string, string>()
  #next = 0

  constructor(calls: SpaceCalls, spaces: Spaces) {
    this.#calls = calls
    this.#spaces = spaces
  }

  /** Looks at up to `limit` keys; answers how many went. Each namespace visited counts as a look. */
  async sweep(scope: CallScope, limit: number): Promise<number> {
    this.#calls.enter()
    const spaces = await this.#spaces.list(scope)
    let left = limit
    let freed = 0
    for (let turn = 0; turn < spaces.length && left > 0; turn++) {
      const space = spaces[this.#next++ % spaces.length]
      if (space === undefined) break
      const done = await this.#sweepOne(scopeWith(scope, { tenant: space.tenant }), space, left - 1)
      left -= 1 + done.seen
      freed += done.freed
    }
    return freed
  }

  async #sweepOne(scope: CallScope, space: SpaceName, limit: number) {
    const base = this.#calls.keys.space(space.tenant, { name: space.namespace }, space.partition)
    const { connection } = this.#calls
    const now = connection.clock.now()
    const [expired, tagged, orphans] = await Promise.all([
      connection.send(scope, "read", "ZRANGEBYSCORE", [`${base}expiry`, "-inf", now, "LIMIT", 0, limit]),
      connection.send(scope, "read", "HLEN", [`${base}tags`]),
      connection.send(scope, "read", "SRANDMEMBER", [`${base}orphans`, PART]),
    ])
    const first = asList(expired).map(asText)
    let freed = await this.#check(scope, space, first)
    let seen = first.length
    if (typeof tagged === "number" && tagged > 0 && seen < limit) {
      const more = await this.#round(scope, base, Math.min(PART, limit - seen))
      freed += await this.#check(scope, space, more)
      seen += more.length
    }
    await this.#calls.chores(scope, space, "reap", asList(orphans).map(asText))
    return { seen, freed }
  }

  async #check(scope: CallScope, space: SpaceName, keys: readonly string[]): Promise<number> {
    let freed = 0
    for (let at = 0; at < keys.length; at += PART) {
      const answers = await this.#calls.chores(scope, space, "check", keys.slice(at, at + PART))
      freed += answers.filter(([went]) => asText(went) === "1").length
    }
    return freed
  }

  /** The next keys on the round through a namespace. */
  async #round(scope: CallScope, base: string, count: number): Promise<readonly string[]> {
    const after = this.#cursors.get(base)
    const from = after === undefined ? "-" : `(${after}`
    const answer = await this.#calls.connection.send(scope, "read", "ZRANGEBYLEX", [
      `${base}names`,
      from,
      "+",
      "LIMIT",
      0,
      count,
    ])
    const keys = asList(answer).map(asText)
    const last = keys.at(-1)
    if (keys.length < count || last === undefined) this.#cursors.delete(base)
    else this.#cursors.set(base, last)
    return keys
  }
}
