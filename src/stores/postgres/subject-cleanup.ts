/** What goes with a user or an agent: its roles and its keys. */
import type { Tx } from "./database.ts"

/** Drops the subject's assignments and revokes the keys bound to it, with the assignments of those keys. */
export async function dropSubject(tx: Tx, kind: "user" | "agent", id: string, now: Date): Promise<void> {
  const tenant = tx.scope.tenant
  await tx.query({
    text: "delete from keelplane.role_assignments where tenant = $1 and subject_kind = $2 and subject_id = $3",
    values: [tenant, kind, id],
  })
  const column = kind === "user" ? "user_id" : "agent_id"
  await tx.query({
    text: `update keelplane.api_keys set revoke_time = $3, revision = revision + 1
      where tenant = $1 and ${column} = $2 and ${column} <> '' and revoke_time is null`,
    values: [tenant, id, now],
  })
}

/** Whether the user or agent exists, held in place until the transaction ends. */
export async function subjectExists(tx: Tx, kind: "user" | "agent", id: string): Promise<boolean> {
  const { count } = await tx.query({
    text: `select 1 from keelplane.${kind === "user" ? "users" : "agents"} where tenant = $1 and id = $2 for share`,
    values: [tx.scope.tenant, id],
  })
  return count > 0
}
