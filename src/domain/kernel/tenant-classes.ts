/** What differs between classes of tenants. */
import type { TenantId } from "./scope.ts"

/** Tenants that share a value. */
export interface TenantClass<T> {
  readonly name: string
  /** Ids, or the beginnings of ids with `*` behind them. */
  readonly tenants: readonly string[]
  readonly value: T
}

/** A value for every tenant: that of its class, or else the one of all tenants that are in none. No tenant may be in two classes. */
export class ByTenant<T> {
  readonly others: T
  readonly classes: readonly TenantClass<T>[]
  readonly #ids = new Map<string, T>()
  readonly #beginnings: (readonly [beginning: string, value: T])[] = []

  constructor(others: T, classes: readonly TenantClass<T>[] = []) {
    this.others = others
    this.classes = classes
    for (const { tenants, value } of classes) {
      for (const tenant of tenants) {
        if (tenant.endsWith("*")) this.#beginnings.push([tenant.slice(0, -1), value])
        else this.#ids.set(tenant, value)
      }
    }
  }

  /** The tenant's value. */
  of(tenant: TenantId): T {
    if (this.#ids.has(tenant)) return this.#ids.get(tenant) as T
    const found = this.#beginnings.find(([beginning]) => tenant.startsWith(beginning))
    return found === undefined ? this.others : found[1]
  }

  /** Every value; that of tenants in no class first. */
  get values(): readonly T[] {
    return [this.others, ...this.classes.map(({ value }) => value)]
  }

  /** The same classes with other values. */
  map<U>(change: (value: T) => U): ByTenant<U> {
    return new ByTenant(
      change(this.others),
      this.classes.map(({ value, ...rest }) => ({ ...rest, value: change(value) })),
    )
  }
}
