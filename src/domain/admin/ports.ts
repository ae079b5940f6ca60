import type { CallScope } from "../kernel/scope.ts"
import type { BreakerChoice, BreakerView, DaemonView, MigrationView, SettingView } from "./model.ts"

/** The daemon itself, as AdminService reaches it. */
export interface DaemonControl {
  /** The state; a store that does not answer in time is shown as such. Raises nothing. */
  status(scope: CallScope): Promise<DaemonView>
  /** Every setting in force. Raises nothing. */
  settings(): readonly SettingView[]
  /** Every migration of every store, by store and version. Raises STORE_UNAVAILABLE and SCHEMA_MISMATCH. */
  migrations(scope: CallScope): Promise<readonly MigrationView[]>
  /** Begins to drain and returns. Repeating it has no further effect. */
  drain(): void
}

/** The circuit breakers, as operators work them. Every call answers the breakers it is about, as they are after it. */
export interface BreakerControl {
  /** Every breaker. Raises nothing. */
  list(): readonly BreakerView[]
  /** Opens breakers until a reset, or for `durationMs`. Raises NOT_FOUND and REQUEST_ID_REUSED. */
  trip(scope: CallScope, choice: BreakerChoice, durationMs: number | undefined): readonly BreakerView[]
  /** Closes breakers and forgets their failures. Raises NOT_FOUND and REQUEST_ID_REUSED. */
  reset(scope: CallScope, choice: BreakerChoice): readonly BreakerView[]
}
