/** Which tenants' namespaces there are, so that the sweeper finds those of daemons that are gone. */
import type { Namespace } from "../../domain/cache/model.ts"
import { DomainError } from "../../domain/kernel/errors.ts"
import type { CallScope, TenantId } from "../../domain/kernel/scope.ts"
import { asList, asNumber, asText } from "./answers.ts"
import type { Connection } from "./connection.ts"
import type { Keys, SpaceKeys } from "./keys.ts"
import type { SpaceName } from "./space-calls.ts"

const CHUNK = 500

/** See the file's comment. A namespace is noted on the server before the first write to it. */
export class Spaces {
  readonly #connection: Connection
  readonly #keys: Keys
  readonly #noted = new Set<string>()
  /** Those among the noted ones whose name need not be made to look it up. */
  #known = new WeakSet<SpaceKeys>()

  constructor(connection: Connection, keys: Keys) {
    this.#connection = connection
    this.#keys = keys
  }

  /** Notes a namespace unless this daemon has; undefined where it has. Raises what a write raises. */
  note(scope: CallScope, { name }: Pick<Namespace, "name">, partition: number): Promise<void> | undefined {
    const keys = this.#keys.spaceKeys(scope.tenant, { name }, partition)
    return this.#known.has(keys) ? undefined : this.#note(scope, name, partition, keys)
  }

  async #note(scope: CallScope, namespace: string, partition: number, keys: SpaceKeys): Promise<void> {
    const name = JSON.stringify(
      partition === 0 ? [scope.tenant, namespace] : [scope.tenant, namespace, partition],
    )
    if (!this.#noted.has(name)) await this.#tell(scope, name)
    this.#noted.add(name)
    this.#known.add(keys)
  }

  async #tell(scope: CallScope, name: string): Promise<void> {
    try {
      // To note twice is harmless, so that a lost answer need not be told apart.
      await this.#connection.send(scope, "read", "SADD", [this.#keys.spaces, name])
    } catch (error) {
      // In a cluster another node may have the key to be written; the next sweep tells this one what it missed.
      const elsewhere =
        this.#keys.isSpread && error instanceof DomainError && error.reason === "STORE_UNAVAILABLE"
      if (!elsewhere) throw error
    }
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
    this.#known = new WeakSet()
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
