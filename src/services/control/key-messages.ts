/** API keys between the proto and the domain. */
import type { MessageInitShape } from "@bufbuild/protobuf"
import { timestampFromMs } from "@bufbuild/protobuf/wkt"
import { TOKEN_PREFIX } from "../../domain/control/api-key-token.ts"
import type { ApiKey } from "../../domain/control/model.ts"
import type { FieldTable } from "../../domain/kernel/filter/index.ts"
import type { ApiKeySchema } from "../../gen/keelplane/v1/control_service_pb.ts"
import { timeMessage } from "../times.ts"

/** The filter fields of keys. */
export const KEY_FILTER: FieldTable = {
  api_key_id: { type: "string" },
  name: { type: "string" },
  user_id: { type: "string" },
  agent_id: { type: "string" },
  create_time: { type: "timestamp" },
  expire_time: { type: "timestamp" },
  revoke_time: { type: "timestamp" },
}

/** A key as callers see it. */
export function keyMessage(key: ApiKey): MessageInitShape<typeof ApiKeySchema> {
  const { id, name, permissions, userId, agentId, platform, revision } = key
  return {
    apiKeyId: id,
    name,
    permissions: [...permissions],
    userId,
    agentId,
    platform,
    revision,
    createTime: timestampFromMs(key.createTime),
    expireTime: timeMessage(key.expireTime),
    revokeTime: timeMessage(key.revokeTime),
    previousSecretExpireTime: timeMessage(key.previousSecretExpireTime),
    tokenPrefix: `${TOKEN_PREFIX}${id}`,
  }
}
