import type { Config } from "../config/schema.ts"
import { DomainError } from "../domain/kernel/errors.ts"
import type { Logger } from "../domain/kernel/logger.ts"
import { DEFAULT_TENANT } from "../domain/kernel/scope.ts"
import { type Authenticator, firstOf, type Identity } from "../rpc/auth/authenticator.ts"
import { tokenFileAuthenticator } from "../rpc/auth/token-file.ts"
import type { ControlPlane } from "./planes/control.ts"

/**
 * The authenticator of the configuration. With auth.mode none a caller need not show anything, but a credential that is shown
 * counts: somebody who tries an API key on a laptop must see what it may and may not do.
 */
export function createAuthenticator(config: Config, logger: Logger, control: ControlPlane): Authenticator {
  const path = config.auth.token_file
  const tokens = path === undefined ? [] : [tokenFileAuthenticator({ path, logger, platform: true })]
  return { ...firstOf([...tokens, apiKeyAuthenticator(control)]), optional: config.auth.mode === "none" }
}

function apiKeyAuthenticator({ apiKeys, directory }: ControlPlane): Authenticator {
  const look = async (token: string): Promise<Identity | undefined> => {
    try {
      const { principal, tenant } = await apiKeys.authenticate(token)
      if (tenant !== undefined) await directory.require(tenant)
      return { ...principal, tenant: tenant ?? DEFAULT_TENANT }
    } catch (error) {
      // Not knowing a key and knowing that it is bad look the same from outside; a store that cannot tell does not.
      if (
        error instanceof DomainError &&
        (error.reason === "UNAUTHENTICATED" || error.reason === "NOT_FOUND")
      ) {
        return undefined
      }
      throw error
    }
  }
  return {
    authenticate: ({ bearer, apiKey }) => {
      const token = apiKey ?? bearer
      return token === undefined ? undefined : look(token)
    },
  }
}
