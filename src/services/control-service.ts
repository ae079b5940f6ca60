/** ControlService. */
import { ControlService } from "../gen/keelplane/v1/control_service_pb.ts"
import { type Service, service } from "../rpc/handler.ts"
import { agentHandlers } from "./control/agents.ts"
import { configHandlers } from "./control/configs.ts"
import type { ControlServiceDeps } from "./control/deps.ts"
import { keyHandlers } from "./control/keys.ts"
import { permissionHandlers } from "./control/permissions.ts"
import { roleHandlers } from "./control/roles.ts"
import { sagaHandlers } from "./control/sagas.ts"
import { tenantHandlers } from "./control/tenants.ts"
import { userHandlers } from "./control/users.ts"

export type { ControlServiceDeps } from "./control/deps.ts"

/** ControlService over its stores. */
export function createControlService(deps: ControlServiceDeps): Service {
  return service(ControlService, {
    ...tenantHandlers(deps),
    ...userHandlers(deps),
    ...agentHandlers(deps),
    ...keyHandlers(deps),
    ...roleHandlers(deps),
    ...permissionHandlers(deps),
    ...configHandlers(deps),
    ...sagaHandlers(deps),
  })
}
