/** The role RPCs. */
import { parseFilter } from "../../domain/kernel/filter/index.ts"
import { RoleSchema } from "../../gen/keelplane/v1/control_service_pb.ts"
import { maskedFields, patchOf } from "../field-mask.ts"
import { type ControlHandlers, type ControlServiceDeps, PAGE } from "./deps.ts"
import { assignmentMessage, subjectOf } from "./permission-messages.ts"
import { ROLE_FILTER, ROLE_NAMES, roleFields, roleMessage } from "./resource-messages.ts"

type RoleHandlers = Pick<
  ControlHandlers,
  | "createRole"
  | "getRole"
  | "listRoles"
  | "updateRole"
  | "deleteRole"
  | "assignRole"
  | "revokeRole"
  | "listRoleAssignments"
>

/** Handlers over the role store. */
export function roleHandlers({ roles, pages }: ControlServiceDeps): RoleHandlers {
  return {
    createRole: async ({ role }, ctx) => {
      if (role === undefined) return {}
      return { role: roleMessage(await roles.create(ctx, role.roleId, roleFields(role))) }
    },
    getRole: async (req, ctx) => ({ role: roleMessage(await roles.get(ctx, req.roleId)) }),
    listRoles: async (req, ctx) => {
      const filter = parseFilter(req.filter, ROLE_FILTER)
      const page = await roles.list(ctx, filter, pages.request(ctx, req, PAGE))
      return { roles: page.items.map(roleMessage), nextPageToken: pages.token(ctx, req, page.next) }
    },
    updateRole: async ({ role, updateMask, ifRevisionMatch }, ctx) => {
      if (role === undefined) return {}
      const masked = maskedFields(RoleSchema, role, updateMask, Object.values(ROLE_NAMES))
      const patch = patchOf(roleFields(role), ROLE_NAMES, masked)
      return { role: roleMessage(await roles.update(ctx, role.roleId, patch, ifRevisionMatch)) }
    },
    deleteRole: async (req, ctx) => {
      await roles.delete(ctx, req.roleId, req.ifRevisionMatch)
      return {}
    },
    assignRole: async (req, ctx) => {
      const subject = subjectOf("subject", req.subject)
      return { assignment: assignmentMessage(await roles.assign(ctx, req.roleId, subject, req.resource)) }
    },
    revokeRole: async (req, ctx) => {
      await roles.revoke(ctx, req.roleId, subjectOf("subject", req.subject), req.resource)
      return {}
    },
    listRoleAssignments: async (req, ctx) => {
      const where = {
        ...(req.roleId === "" ? {} : { roleId: req.roleId }),
        ...(req.subject === undefined ? {} : { subject: subjectOf("subject", req.subject) }),
      }
      const page = await roles.listAssignments(ctx, where, pages.request(ctx, req, PAGE))
      return {
        assignments: page.items.map(assignmentMessage),
        nextPageToken: pages.token(ctx, req, page.next),
      }
    },
  }
}
