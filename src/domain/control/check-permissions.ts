/** Questions about what subjects may do. */
import { notFound } from "../kernel/errors.ts"
import type { Page, PageRequest } from "../kernel/paging.ts"
import type { CallScope } from "../kernel/scope.ts"
import type { Grant, Subject } from "./model.ts"
import { type Decision, decide } from "./permissions.ts"
import type { RoleStore } from "./ports.ts"

/** May this subject do that on this resource ("" for everywhere)? */
export interface PermissionQuestion {
  readonly subject: Subject
  readonly permission: string
  readonly resource: string
}

/** Answers all questions from one snapshot, in their order. */
export async function checkPermissions(
  roles: RoleStore,
  scope: CallScope,
  questions: readonly PermissionQuestion[],
): Promise<readonly Decision[]> {
  const subjects = new Map(questions.map(({ subject }) => [keyOf(subject), subject]))
  const found = await roles.grants(scope, [...subjects.values()])
  const bySubject = new Map(found.map((grants) => [keyOf(grants.subject), grants]))
  return questions.map(({ subject, permission, resource }) => {
    const grants = bySubject.get(keyOf(subject)) ?? { subject, state: "unknown", grants: [] }
    return decide(grants, permission, resource)
  })
}

/** What a subject has, by permission, role, resource and holder in code unit order. NOT_FOUND for an unknown one. */
export async function listPermissions(
  roles: RoleStore,
  scope: CallScope,
  subject: Subject,
  page: PageRequest,
): Promise<Page<Grant>> {
  const [found] = await roles.grants(scope, [subject])
  if (found === undefined || found.state === "unknown") throw notFound(subject.kind, subject.id)
  const sorted = found.grants.map((grant) => ({ grant, key: sortKey(grant) }))
  sorted.sort((a, b) => compareKeys(a.key, b.key))
  const after = page.cursor
  const rest = after === undefined ? sorted : sorted.filter(({ key }) => compareKeys(key, after) > 0)
  const items = rest.slice(0, page.size)
  const next = rest.length > page.size ? items.at(-1)?.key : undefined
  return { items: items.map(({ grant }) => grant), next }
}

function keyOf({ kind, id }: Subject): string {
  return `${kind}:${id}`
}

function sortKey({ permission, roleId, resource, holder }: Grant): readonly string[] {
  return [permission, roleId, resource, holder.kind, holder.id]
}

function compareKeys(a: readonly string[], b: readonly string[]): number {
  for (const [at, left] of a.entries()) {
    const right = b[at] ?? ""
    if (left !== right) return left < right ? -1 : 1
  }
  return 0
}
