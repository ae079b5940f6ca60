import type { LoadedConfig } from "../../config/load.ts"
import type { ServerStats } from "../../rpc/server-options.ts"
import type { OpenEngine } from "../engines.ts"
import type { Guards } from "../guards.ts"
import type { Kit, Plane } from "../kit.ts"

/** What AdminService shows and does. */
export interface AdminSources {
  readonly loaded: LoadedConfig
  readonly kit: Kit
  readonly engines: readonly OpenEngine[]
  readonly guards: Guards
  stats(): ServerStats | undefined
  drain(): void
}

/** AdminService. */
export function adminPlane(_sources: AdminSources): Plane {
  return { services: [], needs: [], sweepers: [], close: async () => {} }
}
