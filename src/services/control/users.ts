/** The user RPCs. */
import { parseFilter } from "../../domain/kernel/filter/index.ts"
import { UserSchema } from "../../gen/keelplane/v1/control_service_pb.ts"
import { maskedFields, patchOf } from "../field-mask.ts"
import { type ControlHandlers, type ControlServiceDeps, PAGE } from "./deps.ts"
import { idOf, requiredId, USER_FILTER, USER_NAMES, userFields, userMessage } from "./resource-messages.ts"

type UserHandlers = Pick<
  ControlHandlers,
  "createUser" | "getUser" | "listUsers" | "updateUser" | "deleteUser"
>

/** Handlers over the user store. Disabling or deleting users changes whether keys are good. */
export function userHandlers({ users, pages, signals }: ControlServiceDeps): UserHandlers {
  return {
    createUser: async ({ user }, ctx) => {
      if (user === undefined) return {}
      return { user: userMessage(await users.create(ctx, idOf(user.userId), userFields(user))) }
    },
    getUser: async (req, ctx) => ({ user: userMessage(await users.get(ctx, req.userId)) }),
    listUsers: async (req, ctx) => {
      const filter = parseFilter(req.filter, USER_FILTER)
      const page = await users.list(ctx, filter, pages.request(ctx, req, PAGE))
      return { users: page.items.map(userMessage), nextPageToken: pages.token(ctx, req, page.next) }
    },
    updateUser: async ({ user, updateMask, ifRevisionMatch }, ctx) => {
      if (user === undefined) return {}
      const id = requiredId("user.user_id", user.userId)
      const masked = maskedFields(UserSchema, user, updateMask, Object.values(USER_NAMES))
      const patch = patchOf(userFields(user), USER_NAMES, masked)
      const updated = await users.update(ctx, id, patch, ifRevisionMatch)
      if (masked.has("disabled")) signals.identityChanged()
      return { user: userMessage(updated) }
    },
    deleteUser: async (req, ctx) => {
      await users.delete(ctx, req.userId, req.ifRevisionMatch)
      signals.identityChanged()
      return {}
    },
  }
}
