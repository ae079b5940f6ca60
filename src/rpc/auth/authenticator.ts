import type { TenantId } from "../../domain/kernel/scope.ts"
import type { Awaitable, Principal } from "../handler.ts"

/** What a caller showed. */
export interface Credential {
  /** The token of `authorization: Bearer ...`. */
  readonly bearer?: string | undefined
  /** The value of `x-api-key`. */
  readonly apiKey?: string | undefined
  /** The caller's address, for rate limits on wrong credentials; `unix` on a socket file. */
  readonly peer: string
}

/** Who a credential belongs to and for whose data. */
export interface Identity extends Principal {
  /** The tenant the credential is bound to; for a platform credential the one it acts for by default. */
  readonly tenant: TenantId
}

/** Turns credentials into identities. Throws DomainError STORE_UNAVAILABLE where it cannot tell; undefined means unknown. */
export interface Authenticator {
  /** True where a caller may show no credential at all and is then the local principal; one that is shown must be good. */
  readonly optional?: boolean
  authenticate(credential: Credential): Awaitable<Identity | undefined>
}

/** Asks each in order; the first that knows the credential decides. */
export function firstOf(authenticators: readonly Authenticator[]): Authenticator {
  return {
    async authenticate(credential) {
      for (const authenticator of authenticators) {
        const identity = await authenticator.authenticate(credential)
        if (identity !== undefined) return identity
      }
      return undefined
    },
  }
}
