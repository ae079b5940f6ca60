/** Makes the keyspace where it is not there yet. */
import type cassandra from "cassandra-driver"
import { DomainError } from "../../domain/kernel/errors.ts"
import type { ClusterAddress, Replication } from "./url.ts"

/** Throws SCHEMA_MISMATCH where there is no keyspace and the URL does not say how many copies a new one should keep. */
export async function ensureKeyspace(
  client: cassandra.Client,
  address: ClusterAddress,
  dryRun: boolean,
): Promise<boolean> {
  const { keyspace, replication } = address
  const { rows } = await client.execute(
    "select keyspace_name from system_schema.keyspaces where keyspace_name = ?",
    [keyspace],
    { prepare: true },
  )
  if (rows.length > 0) return true
  if (replication === undefined) {
    throw new DomainError(
      "SCHEMA_MISMATCH",
      `keyspace "${keyspace}" does not exist; create it, or say in the url how many copies it should keep: replication=3`,
      { metadata: { keyspace } },
    )
  }
  if (dryRun) return false
  const centres = new Set(client.hosts.values().map(({ datacenter }) => datacenter))
  const local = address.dataCenter ?? [...centres][0] ?? ""
  // Names and numbers were checked when the URL was read; a data centre's name comes from the cluster or the URL.
  await client.execute(
    `create keyspace if not exists ${keyspace} with replication = ${replicationText(replication, local)}`,
    [],
    { prepare: false, readTimeout: 60_000 },
  )
  return true
}

function replicationText(replication: Replication, local: string): string {
  if (replication.strategy === "simple")
    return `{'class': 'SimpleStrategy', 'replication_factor': ${replication.copies}}`
  const copies = replication.copies
  const centres: Iterable<readonly [string, number]> = typeof copies === "number" ? [[local, copies]] : copies
  const texts = [...centres].map(([name, count]) => `'${name.replaceAll("'", "''")}': ${count}`)
  return `{'class': 'NetworkTopologyStrategy', ${texts.join(", ")}}`
}
