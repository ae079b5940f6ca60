import { DomainError } from "../../domain/kernel/errors.ts"
import type { Authenticator, Credential, Identity } from "../auth/authenticator.ts"
import type { Call } from "../call.ts"
import type { MethodInfo } from "../compile.ts"
import type { Interceptor, Step } from "./step.ts"

const BEARER = /^bearer +(\S+) *$/i
const MAX_CREDENTIAL_CHARS = 4096

/** Finds out who calls and whether he may. Without an authenticator every caller is the local principal. */
export function authentication(authenticator: Authenticator | undefined): Interceptor {
  return {
    name: "authentication",
    compile(method) {
      if (authenticator === undefined || method.access === "public") return undefined
      return authenticationStep(method, authenticator)
    },
  }
}

function authenticationStep(method: MethodInfo, authenticator: Authenticator): Step {
  const optional = authenticator.optional === true
  const admit = (call: Call, identity: Identity | undefined): void => {
    if (identity === undefined) throw unauthenticated("the credential is unknown, expired or revoked")
    call.principal = identity
    call.tenant = identity.tenant
    authorize(method, identity)
  }
  return {
    enter(call) {
      const credential = credentialOf(call)
      if (credential === undefined) {
        if (optional) return
        throw unauthenticated("send `authorization: Bearer <key>` or `x-api-key: <key>`")
      }
      const identity = authenticator.authenticate(credential)
      if (!(identity instanceof Promise)) return admit(call, identity)
      return identity.then((found) => admit(call, found))
    },
  }
}

/** What the caller shows; undefined where it shows nothing. */
function credentialOf(call: Call): Credential | undefined {
  const authorization = call.header("authorization")
  const apiKey = call.header("x-api-key")
  if (authorization === undefined && apiKey === undefined) return undefined
  if ((authorization ?? "").length > MAX_CREDENTIAL_CHARS || (apiKey ?? "").length > MAX_CREDENTIAL_CHARS) {
    throw unauthenticated("the credential is too long to be one")
  }
  const bearer = authorization === undefined ? undefined : BEARER.exec(authorization)?.[1]
  if (authorization !== undefined && bearer === undefined) {
    throw unauthenticated("the authorization header must be `Bearer <key>`")
  }
  return { bearer, apiKey, peer: call.peer }
}

function unauthenticated(message: string): DomainError {
  return new DomainError("UNAUTHENTICATED", message)
}

function authorize(method: MethodInfo, identity: Identity): void {
  if (method.platformOnly && !identity.platform) {
    throw new DomainError("PERMISSION_DENIED", `${method.name} needs a platform credential`, {
      metadata: { permission: "platform" },
    })
  }
  const { permission, plane } = method
  if (permission === "") return
  const { permissions } = identity
  if (permissions.has("*") || permissions.has(permission) || permissions.has(plane)) return
  throw new DomainError("PERMISSION_DENIED", `the credential lacks the permission ${permission}`, {
    metadata: { permission },
  })
}
