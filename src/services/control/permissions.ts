/** The permission RPCs. */
import type { MessageShape } from "@bufbuild/protobuf"
import {
  checkPermissions,
  listPermissions,
  type PermissionQuestion,
} from "../../domain/control/check-permissions.ts"
import type { PermissionCheckSchema } from "../../gen/keelplane/v1/control_service_pb.ts"
import { type ControlHandlers, type ControlServiceDeps, PAGE } from "./deps.ts"
import { resultMessage, subjectMessage, subjectOf } from "./permission-messages.ts"

type PermissionHandlers = Pick<
  ControlHandlers,
  "checkPermission" | "batchCheckPermissions" | "listPermissions"
>

/** Handlers over the role store. */
export function permissionHandlers({ roles, pages }: ControlServiceDeps): PermissionHandlers {
  return {
    checkPermission: async ({ check }, ctx) => {
      const asked = check === undefined ? [] : [questionOf("check", check)]
      const [decision] = await checkPermissions(roles, ctx, asked)
      return decision === undefined ? {} : { result: resultMessage(decision) }
    },
    batchCheckPermissions: async ({ checks }, ctx) => {
      const asked = checks.map((check, at) => questionOf(`checks[${at}]`, check))
      return { results: (await checkPermissions(roles, ctx, asked)).map(resultMessage) }
    },
    listPermissions: async (req, ctx) => {
      const subject = subjectOf("subject", req.subject)
      const page = await listPermissions(roles, ctx, subject, pages.request(ctx, req, PAGE))
      const permissions = page.items.map((grant) => ({ ...grant, holder: subjectMessage(grant.holder) }))
      return { permissions, nextPageToken: pages.token(ctx, req, page.next) }
    },
  }
}

function questionOf(field: string, check: MessageShape<typeof PermissionCheckSchema>): PermissionQuestion {
  const { permission, resource } = check
  return { subject: subjectOf(`${field}.subject`, check.subject), permission, resource }
}
