/** The meaning of permissions: `<type>:<action>` patterns of roles, and `<plane>.<verb>` permissions of the daemon's own RPCs. */
import type { Grant, SubjectGrants } from "./model.ts"

/** The outcome of one check. */
export type Decision =
  | { readonly allowed: true; readonly grant: Grant }
  | { readonly allowed: false; readonly why: "no-grant" | "unknown-subject" | "subject-disabled" }

/** Whether `pattern` covers `permission`. Each half may end in `*`, which stands for any rest. Case matters. */
export function coversPermission(pattern: string, permission: string): boolean {
  const colon = pattern.indexOf(":")
  const split = permission.indexOf(":")
  if (colon < 0 || split < 0) return false
  return (
    coversPart(pattern.slice(0, colon), permission.slice(0, split)) &&
    coversPart(pattern.slice(colon + 1), permission.slice(split + 1))
  )
}

function coversPart(pattern: string, part: string): boolean {
  return pattern.endsWith("*") ? part.startsWith(pattern.slice(0, -1)) : pattern === part
}

/**
 * Whether a role that holds at `granted` counts for a question about `asked`. "" is everywhere; `a/*` is everything below
 * `a/`, not `a` itself. A question about everywhere ("") is answered by roles that hold everywhere alone.
 */
export function coversResource(granted: string, asked: string): boolean {
  if (granted === "") return true
  if (granted.endsWith("/*")) {
    const prefix = granted.slice(0, -1)
    return asked.length > prefix.length && asked.startsWith(prefix)
  }
  return granted === asked
}

/** Decides one question from what the subject has. */
export function decide(subject: SubjectGrants, permission: string, resource: string): Decision {
  if (subject.state === "unknown") return { allowed: false, why: "unknown-subject" }
  if (subject.state === "disabled") return { allowed: false, why: "subject-disabled" }
  for (const grant of subject.grants) {
    if (coversPermission(grant.permission, permission) && coversResource(grant.resource, resource)) {
      return { allowed: true, grant }
    }
  }
  return { allowed: false, why: "no-grant" }
}

/** Whether a credential with `held` may call an RPC (or hand on a permission) that needs `needed`. */
export function holdsRpcPermission(held: { has(permission: string): boolean }, needed: string): boolean {
  if (held.has("*") || held.has(needed)) return true
  const dot = needed.indexOf(".")
  return dot > 0 && held.has(`${needed.slice(0, dot)}.*`)
}
