/** The seam between the store and a script runtime. */
import type { ScriptCall } from "../../domain/cache/ports.ts"
import type { JsonValue } from "../../domain/kernel/json.ts"
import type { Space } from "./space.ts"

/** A script that is ready: runs at once, over one space. Raises SCRIPT_FAILED. */
export type PreparedScript = (space: Space, call: ScriptCall, nowMs: number) => JsonValue

/** Finds scripts by name and gets their runtime ready. */
export interface ScriptRunner {
  /** Raises NOT_FOUND for a name that is not registered. */
  prepare(name: string): Promise<PreparedScript>
}
