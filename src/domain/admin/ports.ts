import type { CallScope } from "../kernel/scope.ts"
import type { DaemonView, MigrationView, SettingView } from "./model.ts"

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
