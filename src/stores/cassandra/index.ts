/** Cassandra and ScyllaDB, for bootstrap. */
export type { CassandraCapabilities } from "./capabilities.ts"
export type { PasswordSource } from "./client.ts"
export type { Cluster, Row, Statement } from "./database.ts"
export {
  type CassandraEngine,
  type CassandraOptions,
  type CassandraStats,
  openCassandra,
} from "./engine.ts"
export { type CassandraEventStoreOptions, createCassandraEventStore } from "./event-store.ts"
export type { MigrateOptions, MigrationFile, MigrationStatus } from "./migrate.ts"
