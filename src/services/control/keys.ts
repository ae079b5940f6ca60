/** The API key RPCs. */
import { durationMs } from "@bufbuild/protobuf/wkt"
import { createApiKey, requirePlatform, rotateApiKey } from "../../domain/control/issue-api-key.ts"
import { verifyApiKey } from "../../domain/control/verify-api-key.ts"
import { invalidField } from "../../domain/kernel/errors.ts"
import { parseFilter } from "../../domain/kernel/filter/index.ts"
import { ApiKeyCode } from "../../gen/keelplane/v1/control_service_pb.ts"
import { expirationOf } from "../times.ts"
import { type ControlHandlers, type ControlServiceDeps, PAGE } from "./deps.ts"
import { KEY_FILTER, keyMessage } from "./key-messages.ts"

const DEFAULT_GRACE_MS = 24 * 3_600_000

type KeyHandlers = Pick<
  ControlHandlers,
  "createApiKey" | "verifyApiKey" | "listApiKeys" | "revokeApiKey" | "rotateApiKey"
>

/** Handlers over the key store. */
export function keyHandlers(deps: ControlServiceDeps): KeyHandlers {
  const { keys, pages, signals, clock } = deps
  return {
    createApiKey: async (req, ctx) => {
      if (req.platform && (req.userId !== "" || req.agentId !== "")) {
        throw invalidField("platform", "a key of the platform has no user and no agent")
      }
      const { name, permissions, userId, agentId, platform } = req
      const expireTime = expirationOf(req.expiration, clock.now())
      const input = { name, permissions, userId, agentId, platform, expireTime }
      const { key, token } = await createApiKey(deps, ctx, ctx.principal, input)
      return { apiKey: keyMessage(key), token }
    },
    verifyApiKey: async (req, ctx) => {
      const input = { token: req.token, required: req.requiredPermissions, resource: req.resource }
      const { code, key, missing } = await verifyApiKey(deps, ctx, input)
      return {
        valid: code === "VALID",
        code: ApiKeyCode[code],
        apiKey: key === undefined ? undefined : keyMessage(key),
        missingPermissions: [...missing],
      }
    },
    listApiKeys: async (req, ctx) => {
      requirePlatform(ctx.principal, req.platform)
      const filter = parseFilter(req.filter, KEY_FILTER)
      const page = await keys.list(ctx, filter, req.platform, pages.request(ctx, req, PAGE))
      return { apiKeys: page.items.map(keyMessage), nextPageToken: pages.token(ctx, req, page.next) }
    },
    revokeApiKey: async (req, ctx) => {
      requirePlatform(ctx.principal, req.platform)
      const key = await keys.revoke(ctx, req.apiKeyId, req.platform)
      signals.identityChanged()
      return { apiKey: keyMessage(key) }
    },
    rotateApiKey: async (req, ctx) => {
      const graceMs =
        req.gracePeriod === undefined ? DEFAULT_GRACE_MS : Math.ceil(durationMs(req.gracePeriod))
      const input = { id: req.apiKeyId, platform: req.platform, graceUntil: clock.now() + graceMs }
      const { key, token } = await rotateApiKey(deps, ctx, ctx.principal, input)
      signals.identityChanged()
      return { apiKey: keyMessage(key), token }
    },
  }
}
