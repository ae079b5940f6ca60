/** Which tenants' namespaces there are, so that the sweeper finds those of daemons that are gone. */
import { DomainError } from "../../domain/kernel/errors.ts"
import type { CallScope, TenantId } from "../../domain/kernel/scope.ts"
import { asList, asNumber, asText } from "./answers.ts"
import type { Connection } from "./connection.ts"
import type { Keys } from "./keys.ts"
import type { SpaceName } from "./space-calls.ts"

const CHUNK = 500

/** See the file's comment. A namespace is noted on the server before the first write to it. */
export class Spaces {
  readonly #connection: Connection
  readonly #keys: Keys
  readonly #noted = new Set<string>()

  constructor(connection: Connection, keys: Keys) {
    this.#connection = connection
    this.#keys = keys
  }

  /** Notes a namespace unless this daemon has. Raises what a write raises. */
  async note(scope: CallScope, namespace: string, partition: number): Promise<void> {
    const name = JSON.stringify(
      partition === 0 ? [scope.tenant, namespace] : [scope.tenant, namespace, partition],
    )
    if (this.#noted.has(name)) return
    try {
      // To note twice is harmless, so that a lost answer need not be told apart.
      await this.#connection.send(scope, "read", "SADD", [this.#keys.spaces, name])
    } catch (error) {
      // In a cluster another node may have the key to be written; the next sweep tells this one what it missed.
      const elsewhere =
        this.#keys.isSpread && error instanceof DomainError && error.reason === "STORE_UNAVAILABLE"
      if (!elsewhere) throw error
    }
    this.#noted.add(name)
  }

  /** All of them. Tells the server again what it has lost. */
  async list(scope: CallScope): Promise<readonly SpaceName[]> {
    const answer = asList(await this.#connection.send(scope, "read", "SMEMBERS", [this.#keys.spaces]))
    const known = new Set(answer.map(asText))
    const lost = [...this.#noted].filter((name) => !known.has(name))
    for (let at = 0; at < lost.length; at += CHUNK) {
      const chunk = lost.slice(at, at + CHUNK)
      await this.#connection.send(scope, "read", "SADD", [this.#keys.spaces, ...chunk])
    }
    return [...known, ...lost].map((name) => {
      const [tenant, namespace, partition = 0] = JSON.parse(name) as [TenantId, string, number?]
      return { tenant, namespace, partition }
    })
  }

  /** Strikes out those of the scope's tenant. A daemon that uses one later notes it again, or its next sweep does. */
  async forget(scope: CallScope): Promise<void> {
    const mine = (name: string) => (JSON.parse(name) as [TenantId])[0] === scope.tenant
    const answer = await this.#connection.send(scope, "read", "SMEMBERS", [this.#keys.spaces])
    for (const name of this.#noted) if (mine(name)) this.#noted.delete(name)
    const names = asList(answer).map(asText).filter(mine)
    for (let at = 0; at < names.length; at += CHUNK) {
      const chunk = names.slice(at, at + CHUNK)
      // To strike out twice is harmless, as to note twice is.
      await this.#connection.send(scope, "read", "SREM", [this.#keys.spaces, ...chunk])
    }
  }

  /** How many there are. */
  async count(scope: CallScope): Promise<number> {
    const answer = await this.#connection.send(scope, "read", "SCARD", [this.#keys.spaces])
    return typeof answer === "number" ? answer : asNumber(answer)
  }
}
