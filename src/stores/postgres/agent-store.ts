/** Agents in PostgreSQL. */
import type { Agent, AgentFields } from "../../domain/control/model.ts"
import type { AgentStore } from "../../domain/control/ports.ts"
import { notFound } from "../../domain/kernel/errors.ts"
import type { JsonObject } from "../../domain/kernel/json.ts"
import { type ControlDeps, controlMutation } from "./control-mutation.ts"
import { type ResourceRow, ResourceSql } from "./control-resource.ts"
import type { Tx } from "./database.ts"
import { dropSubject, subjectExists } from "./subject-cleanup.ts"

interface AgentRow extends ResourceRow {
  readonly display_name: string
  readonly description: string
  readonly user_id: string
  readonly labels: Record<string, string>
  readonly metadata: JsonObject
  readonly disabled: boolean
}

const sql = new ResourceSql<Agent, AgentFields, AgentRow>({
  kind: "agent",
  table: "keelplane.agents",
  columns: {
    displayName: { name: "display_name", write: (value) => value },
    description: { name: "description", write: (value) => value },
    userId: { name: "user_id", write: (value) => value },
    labels: { name: "labels", write: (value) => JSON.stringify(value) },
    metadata: { name: "metadata", write: (value) => value },
    disabled: { name: "disabled", write: (value) => value },
  },
  read: (row) => ({
    displayName: row.display_name,
    description: row.description,
    userId: row.user_id,
    labels: row.labels,
    metadata: row.metadata,
    disabled: row.disabled,
  }),
  filter: {
    display_name: { sql: "display_name" },
    user_id: { sql: "user_id" },
    disabled: { sql: "disabled" },
    labels: { sql: "labels" },
    metadata: { sql: "metadata" },
  },
})

/** The agent store. */
export function createAgentStore(deps: ControlDeps): AgentStore {
  const audited = (action: string, id: string) => ({ action, kind: "agent", id })
  return {
    create: (scope, id, fields) =>
      controlMutation(deps, scope, audited("CreateAgent", id), async (tx, now) => {
        await requireOwner(tx, fields.userId)
        return sql.insert(tx, id, fields, now)
      }),
    get: (scope, id) => sql.get(deps.database, scope, id),
    list: (scope, filter, page) => sql.list(deps.database, scope, filter, page),
    update: (scope, id, patch, ifRevision) =>
      controlMutation(deps, scope, audited("UpdateAgent", id), async (tx, now) => {
        await requireOwner(tx, patch.userId)
        return sql.update(tx, id, patch, now, ifRevision)
      }),
    delete: (scope, id, ifRevision) =>
      controlMutation(deps, scope, audited("DeleteAgent", id), async (tx, now) => {
        await sql.lock(tx, id, ifRevision)
        await dropSubject(tx, "agent", id, now)
        await sql.remove(tx, id)
      }),
  }
}

async function requireOwner(tx: Tx, userId: string | undefined): Promise<void> {
  if (userId === undefined || userId === "") return
  if (!(await subjectExists(tx, "user", userId))) throw notFound("user", userId)
}
