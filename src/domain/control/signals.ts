/** Wakes what waits inside this process when a change is committed here. Other daemons' changes are found by time limits. */
import { type Listener, WakeUps } from "../kernel/wake-ups.ts"

/** Most configuration watches at once in one daemon. */
const MAX_WATCHES = 10_000

/** The changes that something in the process waits for. */
export interface ControlSignals {
  /** A key was revoked or rotated, or a user, agent or tenant behind keys was changed. */
  identityChanged(): void
  /** A tenant's configuration has a new version. */
  configChanged(tenant: string): void
  /** Calls `listener` on each change of credentials or tenants. Returns what ends that. */
  onIdentityChange(listener: () => void): () => void
  /** Begins to listen to a tenant's configuration; close it. OVERLOADED when there are too many. */
  listenToConfig(tenant: string): Listener
}

/** Signals for one process. */
export function createControlSignals(): ControlSignals {
  const identity = new Set<() => void>()
  const config = new WakeUps(MAX_WATCHES)
  return {
    identityChanged() {
      for (const listener of identity) listener()
    },
    configChanged(tenant) {
      config.wake(tenant)
    },
    onIdentityChange(listener) {
      identity.add(listener)
      return () => identity.delete(listener)
    },
    listenToConfig: (tenant) => config.listen([tenant]),
  }
}
