/**
 * The tables of the job history: three for each class of tenants, so that each has one time to live. Those of tenants in no class are
 * made by the migrations, the others when a class is configured; all are told how long they keep what is written from then on.
 */
import type cassandra from "cassandra-driver"
import type { JobLife } from "../../domain/event/job-history.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { Cluster } from "./database.ts"
import { changeSchema } from "./migrate.ts"

/** The tables of a class. */
export interface JobTables {
  /** Jobs as they ended, once for each time that they did. */
  readonly ends: string
  /** By id, in spans of ids. */
  readonly byId: string
  /** The spans that there may be. */
  readonly spans: string
}

/** As the configuration has them; anything else would not be part of a name. */
const CLASS = /^[a-z][a-z0-9_]{0,23}$/

/** The tables of a class' tenants, or of those in none. */
export function jobTables(className: string | undefined): JobTables {
  if (className !== undefined && !CLASS.test(className)) throw new Error("a class has a name that is none")
  const end = className === undefined ? "" : `_in_${className}`
  return {
    ends: `job_history${end}`,
    byId: `job_history_by_id${end}`,
    spans: `job_history_spans${end}`,
  }
}

/** All tables that may have jobs of the tenant: it may have been in other classes, and daemons with other settings may be about. */
export async function tablesOf(cql: Cluster, scope: CallScope): Promise<readonly JobTables[]> {
  return [jobTables(undefined), ...(await classTablesOf(cql, scope))]
}

/** Those that are not everybody's. */
export async function classTablesOf(cql: Cluster, scope: CallScope): Promise<readonly JobTables[]> {
  const rows = await cql.read<{ class_name: string }>(scope, {
    cql: "select class_name from job_history_classes where tenant = ?",
    values: [scope.tenant],
  })
  return rows.map(({ class_name }) => jobTables(class_name))
}

const DAY_S = 86_400
/** Spans outlive their jobs. */
const SPAN_S = 31 * DAY_S
/** Of the windows in which rows expire together there are some dozen. */
const WINDOWS = 12

/** A table as it should be. */
interface Wanted {
  readonly name: string
  readonly columns: string
  readonly order: string
  readonly seconds: number
  /** What is only ever written and expires in the order of writing. */
  readonly windowed: boolean
}

function wanted({ className, ms }: JobLife): readonly Wanted[] {
  const { ends, byId, spans } = jobTables(className)
  const seconds = Math.ceil(ms / 1_000)
  // The same as in the migrations.
  return [
    {
      name: ends,
      columns: "tenant text, job_id text, revision bigint, ended_at timestamp, head text, bulk text",
      order: "primary key ((tenant, job_id), revision)) with clustering order by (revision desc)",
      seconds,
      windowed: true,
    },
    {
      name: byId,
      columns: "tenant text, span text, job_id text, revision bigint, head text",
      order:
        "primary key ((tenant, span), job_id, revision)) with clustering order by (job_id desc, revision desc)",
      seconds,
      windowed: true,
    },
    {
      name: spans,
      columns: "tenant text, span text",
      order: "primary key (tenant, span)) with clustering order by (span desc)",
      seconds: seconds + SPAN_S,
      windowed: false,
    },
  ]
}

function options({ seconds, windowed }: Wanted): string {
  if (!windowed) return `default_time_to_live = ${seconds}`
  const days = Math.max(1, Math.floor(seconds / DAY_S / WINDOWS))
  return `default_time_to_live = ${seconds} and compaction = {'class': 'TimeWindowCompactionStrategy',
    'compaction_window_unit': 'DAYS', 'compaction_window_size': ${days}}`
}

/** Makes what is missing and changes what has another time to live. Other daemons that do so wait, and find it done. */
export async function ensureJobTables(client: cassandra.Client, lives: readonly JobLife[]): Promise<void> {
  if ((await changes(client, lives)).length === 0) return
  await changeSchema(client, async (run) => {
    for (const statement of await changes(client, lives)) await run(statement)
  })
}

async function changes(client: cassandra.Client, lives: readonly JobLife[]): Promise<readonly string[]> {
  const { rows } = await client.execute(
    "select table_name, default_time_to_live from system_schema.tables where keyspace_name = ?",
    [client.keyspace],
    { prepare: true },
  )
  const found = new Map(rows.map((row) => [row.table_name as string, row.default_time_to_live as number]))
  return lives.flatMap(wanted).flatMap((table) => {
    const { name, columns, order, seconds } = table
    if (found.get(name) === seconds) return []
    return found.has(name)
      ? [`alter table ${name} with ${options(table)}`]
      : [`create table if not exists ${name} (${columns}, ${order} and ${options(table)}`]
  })
}
