/** The end of a tenant on the servers: every key of his, whoever wrote it, found by going through all names. */
import type { TenantEraser } from "../../domain/control/erasure.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { type Answer, type Argument, asList, asText } from "./answers.ts"
import { type Connection, TIMEOUT_MS } from "./connection.ts"
import { storeUnavailable, toDomainError } from "./errors.ts"
import type { Keys } from "./keys.ts"
import type { Node } from "./node.ts"
import type { Spaces } from "./spaces.ts"

/** Names that a server looks at in one step, in which it does nothing else. */
const STEP = 1_000

/** What {@link createRedisTenantEraser} works on. */
export interface RedisTenantEraserDeps {
  readonly connection: Connection
  readonly keys: Keys
  readonly spaces: Spaces
}

/** Erases cached keys, limits and counters of topics; `store` names the engine in certificates. */
export function createRedisTenantEraser(deps: RedisTenantEraserDeps, store: string): TenantEraser {
  return {
    store,
    holds: async (scope) => {
      for await (const names of found(deps, scope)) if (names.length > 0) return true
      return false
    },
    erase: async (scope) => {
      await deps.spaces.forget(scope)
      let count = 0
      for await (const names of found(deps, scope)) {
        // One by one, as in a cluster each may be in a slot of its own.
        const gone = names.map((name) => deps.connection.send(scope, "write", "UNLINK", [name]))
        for (const answer of await Promise.all(gone)) count += Number(answer)
      }
      return count === 0 ? [] : [{ store, what: "keys", count }]
    },
  }
}

/** The tenant's keys, step by step over every server that has any. */
async function* found(deps: RedisTenantEraserDeps, scope: CallScope): AsyncGenerator<readonly string[]> {
  for (const node of deps.connection.nodes.masters()) yield* onServer(deps, scope, node)
}

async function* onServer(
  { connection, keys }: RedisTenantEraserDeps,
  scope: CallScope,
  node: Node,
): AsyncGenerator<readonly string[]> {
  const pattern = `${literal(keys.tenant(scope.tenant))}*`
  let cursor = "0"
  do {
    const answer = await scan(scope, node, [cursor, "MATCH", pattern, "COUNT", STEP], connection.clock.now())
    const [next, names] = asList(answer)
    cursor = asText(next)
    yield asList(names).map(asText)
  } while (cursor !== "0")
}

/** Asks one server about its own keys, whichever they are. */
async function scan(scope: CallScope, node: Node, args: readonly Argument[], nowMs: number): Promise<Answer> {
  let timer: NodeJS.Timeout | undefined
  const leftMs = Math.min(scope.deadlineMs - nowMs, TIMEOUT_MS)
  try {
    const silence = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(storeUnavailable()), leftMs)
    })
    return await Promise.race([node.send("SCAN", args), silence])
  } catch (error) {
    throw toDomainError(error, "read")
  } finally {
    clearTimeout(timer)
  }
}

/** The text as a pattern that only matches itself. */
function literal(text: string): string {
  return text.replaceAll(/[*?[\]\\^]/g, String.raw`\$&`)
}
