/** What the engine can and cannot do, as data. */

/** See the fields. */
export interface CassandraCapabilities {
  readonly engine: "cassandra"
  /** Most requests that are out at the same time. */
  readonly concurrency: number
  /** Whether a running statement can be stopped. Where not, its caller is answered and it ends by itself. */
  readonly cancel: false
  /** Whether other processes can use the same keyspace at the same time. */
  readonly shared: true
  /** What can be changed together, all or nothing. */
  readonly atomic: "partition"
}

/** A cluster, with at most `concurrency` requests of ours under way. */
export function cassandraCapabilities(concurrency: number): CassandraCapabilities {
  return { engine: "cassandra", concurrency, cancel: false, shared: true, atomic: "partition" }
}
