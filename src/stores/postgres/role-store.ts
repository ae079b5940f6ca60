/** Roles and their assignments in PostgreSQL. */
import type { Role, RoleAssignment, RoleFields, Subject } from "../../domain/control/model.ts"
import type { RoleStore } from "../../domain/control/ports.ts"
import { limitExceeded, notFound } from "../../domain/kernel/errors.ts"
import type { Page, PageRequest } from "../../domain/kernel/paging.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { type ControlDeps, controlMutation } from "./control-mutation.ts"
import { pageOf, type ResourceRow, ResourceSql } from "./control-resource.ts"
import type { Database, Tx } from "./database.ts"
import { queryGrants } from "./permission-query.ts"
import { subjectExists } from "./subject-cleanup.ts"

/** So that a check stays one small query. */
const MAX_ASSIGNMENTS_PER_SUBJECT = 1_000

interface RoleRow extends ResourceRow {
  readonly display_name: string
  readonly description: string
  readonly permissions: readonly string[]
}

interface AssignmentRow {
  readonly subject_kind: Subject["kind"]
  readonly subject_id: string
  readonly role_id: string
  readonly resource: string
  readonly create_time: Date
  readonly creator: string
}

const sql = new ResourceSql<Role, RoleFields, RoleRow>({
  kind: "role",
  table: "keelplane.roles",
  columns: {
    displayName: { name: "display_name", write: (value) => value },
    description: { name: "description", write: (value) => value },
    permissions: { name: "permissions", write: (value) => value },
  },
  read: (row) => ({
    displayName: row.display_name,
    description: row.description,
    permissions: row.permissions,
  }),
  filter: { display_name: { sql: "display_name" } },
})

/** The role store. */
export function createRoleStore(deps: ControlDeps): RoleStore {
  const { database, clock } = deps
  const audited = (action: string, id: string) => ({ action, kind: "role", id })
  const given = (action: string, id: string, { kind, id: subjectId }: Subject, resource: string) => ({
    ...audited(action, id),
    details: { subject: `${kind}:${subjectId}`, resource },
    about: { kind, id: subjectId },
  })
  return {
    create: (scope, id, fields) =>
      controlMutation(deps, scope, audited("CreateRole", id), (tx, now) => sql.insert(tx, id, fields, now)),
    get: (scope, id) => sql.get(database, scope, id),
    list: (scope, filter, page) => sql.list(database, scope, filter, page),
    update: (scope, id, patch, ifRevision) =>
      controlMutation(deps, scope, audited("UpdateRole", id), (tx, now) =>
        sql.update(tx, id, patch, now, ifRevision),
      ),
    delete: (scope, id, ifRevision) =>
      controlMutation(deps, scope, audited("DeleteRole", id), async (tx) => {
        await sql.lock(tx, id, ifRevision)
        // Its assignments go with it: see the foreign key.
        await sql.remove(tx, id)
      }),
    assign: (scope, roleId, subject, resource) =>
      controlMutation(deps, scope, given("AssignRole", roleId, subject, resource), (tx, now) =>
        assign(tx, roleId, subject, resource, now),
      ),
    revoke: (scope, roleId, subject, resource) =>
      controlMutation(deps, scope, given("RevokeRole", roleId, subject, resource), async (tx) => {
        const { count } = await tx.query({
          text: `delete from keelplane.role_assignments
            where tenant = $1 and subject_kind = $2 and subject_id = $3 and role_id = $4 and resource = $5`,
          values: [tx.scope.tenant, subject.kind, subject.id, roleId, resource],
        })
        if (count === 0) throw notFound("role_assignment", `${roleId} of ${subject.kind} ${subject.id}`)
      }),
    listAssignments: (scope, where, page) => listAssignments(database, scope, where, page),
    grants: (scope, subjects) => queryGrants(database, scope, subjects, new Date(clock.now())),
  }
}

async function assign(
  tx: Tx,
  roleId: string,
  subject: Subject,
  resource: string,
  now: Date,
): Promise<RoleAssignment> {
  const { tenant, actor } = tx.scope
  await lockSubject(tx, subject)
  const role = await tx.query({
    text: "select 1 from keelplane.roles where tenant = $1 and id = $2 for share",
    values: [tenant, roleId],
  })
  if (role.count === 0) throw notFound("role", roleId)
  const { rows } = await tx.query<AssignmentRow & { held: number }>({
    text: `with held as (
        select count(*)::int as held from keelplane.role_assignments
        where tenant = $1 and subject_kind = $2 and subject_id = $3
      ), added as (
        insert into keelplane.role_assignments (tenant, subject_kind, subject_id, role_id, resource, create_time, creator)
        values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing returning *
      )
      select a.*, held.held + 1 as held from added a, held
      union all
      select s.*, 0 from keelplane.role_assignments s
      where tenant = $1 and subject_kind = $2 and subject_id = $3 and role_id = $4 and resource = $5`,
    values: [tenant, subject.kind, subject.id, roleId, resource, now, actor],
  })
  const [row] = rows
  if (row === undefined) throw notFound("role", roleId)
  if (row.held > MAX_ASSIGNMENTS_PER_SUBJECT) {
    throw limitExceeded("role assignments of the subject", row.held, MAX_ASSIGNMENTS_PER_SUBJECT)
  }
  return assignmentOf(row)
}

/** Holds the subject, so that it is neither deleted nor given one role too many meanwhile. */
async function lockSubject(tx: Tx, { kind, id }: Subject): Promise<void> {
  if (kind !== "key") {
    if (!(await subjectExists(tx, kind, id))) throw notFound(kind, id)
    return
  }
  const { count } = await tx.query({
    text: "select 1 from keelplane.api_keys where tenant = $1 and id = $2 for share",
    values: [tx.scope.tenant, id],
  })
  if (count === 0) throw notFound("api_key", id)
}

const ORDER = "role_id, subject_kind, subject_id, resource"

async function listAssignments(
  database: Database,
  scope: CallScope,
  where: { readonly roleId?: string; readonly subject?: Subject },
  page: PageRequest,
): Promise<Page<RoleAssignment>> {
  const cursor = page.cursor ?? ["", "", "", ""]
  const values: unknown[] = [scope.tenant, page.size + 1, ...cursor]
  let condition = ""
  if (where.roleId !== undefined) condition += ` and role_id = $${values.push(where.roleId)}`
  if (where.subject !== undefined) {
    condition += ` and subject_kind = $${values.push(where.subject.kind)}`
    condition += ` and subject_id = $${values.push(where.subject.id)}`
  }
  const { rows } = await database.query<AssignmentRow>(scope, {
    text: `select * from keelplane.role_assignments
      where tenant = $1 and (${ORDER}) > ($3, $4, $5, $6)${condition} order by ${ORDER} limit $2`,
    values,
  })
  return pageOf(rows.map(assignmentOf), page.size, ({ roleId, subject, resource }) => [
    roleId,
    subject.kind,
    subject.id,
    resource,
  ])
}

function assignmentOf(row: AssignmentRow): RoleAssignment {
  return {
    roleId: row.role_id,
    subject: { kind: row.subject_kind, id: row.subject_id },
    resource: row.resource,
    createTime: row.create_time.getTime(),
    creator: row.creator,
  }
}
