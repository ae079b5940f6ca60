/** Wakes what waits inside this process when a change is committed here. Other daemons' changes are found by time limits. */

/** Learns of one tenant's configuration changes from the moment it is made. */
export interface ConfigListener {
  /** Resolves when a change was announced since the last call, after `timeoutMs`, or when `signal` aborts. */
  wait(timeoutMs: number, signal: AbortSignal): Promise<void>
  /** Forgets it. */
  close(): void
}

/** The changes that something in the process waits for. */
export interface ControlSignals {
  /** A key was revoked or rotated, or a user, agent or tenant behind keys was changed. */
  identityChanged(): void
  /** A tenant's configuration has a new version. */
  configChanged(tenant: string): void
  /** Calls `listener` on each change of credentials or tenants. Returns what ends that. */
  onIdentityChange(listener: () => void): () => void
  /** Begins to listen to a tenant's configuration; close it. */
  listenToConfig(tenant: string): ConfigListener
}

/** Signals for one process. */
export function createControlSignals(): ControlSignals {
  const identity = new Set<() => void>()
  const config = new Map<string, Set<() => void>>()
  return {
    identityChanged() {
      for (const listener of identity) listener()
    },
    configChanged(tenant) {
      for (const announce of config.get(tenant) ?? []) announce()
    },
    onIdentityChange(listener) {
      identity.add(listener)
      return () => identity.delete(listener)
    },
    listenToConfig(tenant) {
      const { announce, wait } = createWaiter()
      const set = config.get(tenant) ?? new Set()
      config.set(tenant, set.add(announce))
      const close = (): void => {
        set.delete(announce)
        if (set.size === 0 && config.get(tenant) === set) config.delete(tenant)
      }
      return { wait, close }
    },
  }
}

/** A flag that one consumer waits for; set while nobody waits, it ends the next wait at once. */
function createWaiter(): { announce(): void; wait: ConfigListener["wait"] } {
  let changed = false
  let wake: (() => void) | undefined
  return {
    announce() {
      changed = true
      wake?.()
    },
    wait(timeoutMs, signal) {
      if (changed || signal.aborted) {
        changed = false
        return Promise.resolve()
      }
      return new Promise((resolve) => {
        const done = (): void => {
          clearTimeout(timer)
          signal.removeEventListener("abort", done)
          wake = undefined
          changed = false
          resolve()
        }
        const timer = setTimeout(done, timeoutMs)
        signal.addEventListener("abort", done)
        wake = done
      })
    },
  }
}
