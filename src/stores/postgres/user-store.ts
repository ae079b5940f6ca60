/** Users in PostgreSQL. */
import type { User, UserFields } from "../../domain/control/model.ts"
import type { UserStore } from "../../domain/control/ports.ts"
import { type ControlDeps, controlMutation } from "./control-mutation.ts"
import { type ResourceRow, ResourceSql } from "./control-resource.ts"
import { dropSubject } from "./subject-cleanup.ts"

interface UserRow extends ResourceRow {
  readonly display_name: string
  readonly email: string
  readonly labels: Record<string, string>
  readonly disabled: boolean
}

const sql = new ResourceSql<User, UserFields, UserRow>({
  kind: "user",
  table: "keelplane.users",
  columns: {
    displayName: { name: "display_name", write: (value) => value },
    email: { name: "email", write: (value) => value },
    labels: { name: "labels", write: (value) => JSON.stringify(value) },
    disabled: { name: "disabled", write: (value) => value },
  },
  read: (row) => ({
    displayName: row.display_name,
    email: row.email,
    labels: row.labels,
    disabled: row.disabled,
  }),
  filter: {
    display_name: { sql: "display_name" },
    email: { sql: "email" },
    disabled: { sql: "disabled" },
    labels: { sql: "labels" },
  },
})

/** The user store. */
export function createUserStore(deps: ControlDeps): UserStore {
  const audited = (action: string, id: string) => ({ action, kind: "user", id })
  return {
    create: (scope, id, fields) =>
      controlMutation(deps, scope, audited("CreateUser", id), (tx, now) => sql.insert(tx, id, fields, now)),
    get: (scope, id) => sql.get(deps.database, scope, id),
    list: (scope, filter, page) => sql.list(deps.database, scope, filter, page),
    update: (scope, id, patch, ifRevision) =>
      controlMutation(deps, scope, audited("UpdateUser", id), (tx, now) =>
        sql.update(tx, id, patch, now, ifRevision),
      ),
    delete: (scope, id, ifRevision) =>
      controlMutation(deps, scope, audited("DeleteUser", id), async (tx, now) => {
        await sql.lock(tx, id, ifRevision)
        await dropSubject(tx, "user", id, now)
        await tx.query({
          text: `update keelplane.agents set user_id = '', revision = revision + 1, update_time = greatest($3, update_time)
            where tenant = $1 and user_id = $2 and user_id <> ''`,
          values: [scope.tenant, id, now],
        })
        await sql.remove(tx, id)
      }),
  }
}
