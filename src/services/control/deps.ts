/** What ControlService is made of. */
import type { TokenMinter } from "../../domain/control/api-key-token.ts"
import type { ControlFlows } from "../../domain/control/flows.ts"
import type {
  AgentStore,
  ApiKeyStore,
  ConfigStore,
  RoleStore,
  TenantStore,
  UserStore,
} from "../../domain/control/ports.ts"
import type { ControlSignals } from "../../domain/control/signals.ts"
import type { Clock } from "../../domain/kernel/clock.ts"
import type { ControlService } from "../../gen/keelplane/v1/control_service_pb.ts"
import type { Handlers } from "../../rpc/handler.ts"
import type { Pages } from "../paging.ts"

/** What {@link createControlService} needs. */
export interface ControlServiceDeps {
  readonly tenants: TenantStore
  readonly users: UserStore
  readonly agents: AgentStore
  readonly keys: ApiKeyStore
  readonly roles: RoleStore
  readonly configs: ConfigStore
  readonly flows: ControlFlows
  /** Shared with the authenticator and the tenant directory, so that they notice changes at once. */
  readonly signals: ControlSignals
  readonly minter: TokenMinter
  readonly pages: Pages
  readonly clock: Clock
}

/** The handlers of ControlService. */
export type ControlHandlers = Handlers<typeof ControlService>

/** The pages of every list of this service. */
export const PAGE = { defaultSize: 100, maxSize: 1_000 }
