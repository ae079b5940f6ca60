/** The adapters, for bootstrap: loaded only where a cluster is configured. */
export { createCassandraAuditStore } from "./audit-store.ts"
export { type CassandraConfigStore, createCassandraConfigStore } from "./config-store.ts"
export { createCassandraEventStore } from "./event-store.ts"
export { createCassandraJobHistory } from "./job-history.ts"
export { createCassandraSessionStore } from "./session-store.ts"
export { createCassandraTenantEraser } from "./tenant-eraser.ts"
