/** The daemon as operators see it. */

/** One engine behind one or more stores. */
export interface EngineView {
  readonly name: string
  readonly engine: string
  readonly serving: boolean
  readonly latencyMs: number | undefined
  readonly capabilities: Readonly<Record<string, string>>
  /** Undefined where there is no schema, and while the engine does not answer. */
  readonly migrations:
    | { readonly applied: number; readonly pending: number; readonly version: number }
    | undefined
  readonly pool: { readonly inUse: number; readonly idle: number; readonly waiting: number } | undefined
}

/** One circuit breaker. */
export interface BreakerView {
  readonly store: string
  readonly operationClass: string
  readonly state: "closed" | "open" | "half_open"
  readonly successes: number
  readonly failures: number
  readonly rejections: number
  readonly openedAtMs: number | undefined
  readonly nextProbeAtMs: number | undefined
  /** An operator holds it open. */
  readonly tripped: boolean
}

/** Which breakers an operator means. */
export interface BreakerChoice {
  readonly store: string
  /** `read` or `write`; undefined for both. */
  readonly operationClass: string | undefined
}

/** The whole daemon. */
export interface DaemonView {
  readonly version: string
  readonly startMs: number
  readonly uptimeMs: number
  readonly draining: boolean
  readonly engines: readonly EngineView[]
  readonly breakers: readonly BreakerView[]
  readonly services: readonly { readonly name: string; readonly serving: boolean }[]
  readonly edge: { readonly inFlight: number; readonly streams: number; readonly connections: number }
}

/** One setting in force; the value is JSON without secrets. */
export interface SettingView {
  readonly key: string
  readonly value: string
  readonly source: string
}

/** One schema change. */
export interface MigrationView {
  readonly store: string
  readonly version: number
  readonly name: string
  readonly checksum: string
  readonly appliedAtMs: number | undefined
  readonly durationMs: number | undefined
}
