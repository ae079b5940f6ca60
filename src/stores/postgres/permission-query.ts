/** What subjects may do, read in one statement and therefore from one snapshot. */
import type { Grant, Subject, SubjectGrants } from "../../domain/control/model.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { Database } from "./database.ts"

interface HolderRow {
  readonly asked: number
  readonly kind: Subject["kind"]
  readonly id: string
  /** null where there is no such holder. */
  readonly disabled: boolean | null
  readonly role_id: string | null
  readonly resource: string | null
  readonly permissions: readonly string[] | null
}

// A key holds what it has itself and what its user and agent have.
const GRANTS = `with asked as (
    select n::int as n, kind, id from unnest($2::text[], $3::text[]) with ordinality as a (kind, id, n)
  ), keys as (
    select a.n, k.user_id, k.agent_id from asked a
    join keelplane.api_keys k on k.tenant = $1 and k.id = a.id where a.kind = 'key'
  ), holders as (
    select n, kind, id from asked
    union select n, 'user', user_id from keys where user_id <> ''
    union select n, 'agent', agent_id from keys where agent_id <> ''
  )
  select h.n as asked, h.kind, h.id,
    case h.kind
      when 'user' then (select u.disabled from keelplane.users u where u.tenant = $1 and u.id = h.id)
      when 'agent' then (select g.disabled from keelplane.agents g where g.tenant = $1 and g.id = h.id)
      else (select k.revoke_time is not null or coalesce(k.expire_time <= $4, false)
        from keelplane.api_keys k where k.tenant = $1 and k.id = h.id)
    end as disabled,
    r.id as role_id, s.resource, r.permissions
  from holders h
  left join keelplane.role_assignments s on s.tenant = $1 and s.subject_kind = h.kind and s.subject_id = h.id
  left join keelplane.roles r on r.tenant = $1 and r.id = s.role_id
  order by h.n, r.id, s.resource, h.kind, h.id`

/** The grants of each subject, in the order asked. */
export async function queryGrants(
  database: Database,
  scope: CallScope,
  subjects: readonly Subject[],
  now: Date,
): Promise<readonly SubjectGrants[]> {
  const { rows } = await database.query<HolderRow>(scope, {
    name: "kp_grants",
    text: GRANTS,
    values: [scope.tenant, subjects.map(({ kind }) => kind), subjects.map(({ id }) => id), now],
  })
  const bySubject = subjects.map((): HolderRow[] => [])
  for (const row of rows) bySubject[row.asked - 1]?.push(row)
  return subjects.map((subject, at) => grantsOf(subject, bySubject[at] ?? []))
}

function grantsOf(subject: Subject, rows: readonly HolderRow[]): SubjectGrants {
  const own = rows.find((row) => row.kind === subject.kind && row.id === subject.id)
  if (own === undefined || own.disabled === null) return { subject, state: "unknown", grants: [] }
  if (rows.some((row) => row.disabled !== false)) return { subject, state: "disabled", grants: [] }
  const grants: Grant[] = []
  for (const { kind, id, role_id: roleId, resource, permissions } of rows) {
    if (roleId === null) continue
    for (const permission of permissions ?? []) {
      grants.push({ permission, roleId, resource: resource ?? "", holder: { kind, id } })
    }
  }
  return { subject, state: "active", grants }
}
