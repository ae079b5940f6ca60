/** Which services can serve now. The empty name stands for the whole daemon. */

type Listener = (service: string, serving: boolean) => void

/** Read by grpc.health.v1 and by /readyz; written by bootstrap's store monitors. */
export class HealthRegistry {
  readonly #serving = new Map<string, boolean>([["", true]])
  readonly #listeners = new Set<Listener>()
  #draining = false

  /** Full service name (`keelplane.v1.CacheService`) or "" for the daemon. Unknown names are added. */
  set(service: string, serving: boolean): void {
    const before = this.get(service)
    this.#serving.set(service, serving)
    const after = this.get(service)
    if (before !== after && after !== undefined) this.#tell(service, after)
  }

  /** Undefined for a name that was never set. While draining, nothing serves. */
  get(service: string): boolean | undefined {
    const serving = this.#serving.get(service)
    return serving === undefined ? undefined : serving && !this.#draining
  }

  /** Every known service with its state. */
  list(): ReadonlyMap<string, boolean> {
    return new Map([...this.#serving].map(([service, serving]) => [service, serving && !this.#draining]))
  }

  /** From now on everything is NOT_SERVING, whatever is set. */
  drain(): void {
    if (this.#draining) return
    const serving = [...this.list()].filter(([, is]) => is)
    this.#draining = true
    for (const [service] of serving) this.#tell(service, false)
  }

  /** Calls `listener` on each change until the returned function is called. */
  watch(listener: Listener): () => void {
    this.#listeners.add(listener)
    return () => {
      this.#listeners.delete(listener)
    }
  }

  #tell(service: string, serving: boolean): void {
    for (const listener of this.#listeners) listener(service, serving)
  }
}
