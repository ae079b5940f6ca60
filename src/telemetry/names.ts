/** Every name that leaves the process by log, metric or span. */

/** Fields a log line may have. */
export const LOG_FIELDS: ReadonlySet<string> = new Set([
  "address",
  "attempt",
  "breaker",
  "bytes",
  "code",
  "count",
  "dataDir",
  "durationMs",
  "endpoint",
  "engine",
  "entry",
  "file",
  "host",
  "inFlight",
  "listener",
  "method",
  "name",
  "ops",
  "part",
  "path",
  "pid",
  "port",
  "reason",
  "retryMs",
  "service",
  "signal",
  "source",
  "state",
  "status",
  "store",
  "streams",
  "sweeper",
  "tenant",
  "tokens",
  "topic",
  "traceId",
  "transport",
  "unix",
  "version",
])

/** Metrics, in the spelling of Prometheus. OpenTelemetry's stable names where there are some. */
export const METRIC = {
  rpcCalls: "keelplane_rpc_server_calls_total",
  rpcDuration: "rpc_server_call_duration_seconds",
  rpcInFlight: "keelplane_rpc_server_calls_in_flight",
  rpcStreams: "keelplane_rpc_server_streams_open",
  connections: "keelplane_rpc_server_connections",
  storeDuration: "db_client_operation_duration_seconds",
  storeErrors: "keelplane_store_errors_total",
  storeUp: "keelplane_store_up",
  breakerState: "keelplane_breaker_state",
  breakerRejects: "keelplane_breaker_rejections_total",
  poolConnections: "keelplane_store_pool_connections",
  poolWaiting: "keelplane_store_pool_waiting",
  sweepRemoved: "keelplane_sweep_removed_total",
  sweepFailures: "keelplane_sweep_failures_total",
  cacheBytes: "keelplane_cache_bytes",
  cacheEntries: "keelplane_cache_entries",
  residentBytes: "process_resident_memory_bytes",
  heapBytes: "nodejs_heap_size_used_bytes",
  eventLoopLag: "nodejs_eventloop_lag_seconds",
  cpuSeconds: "process_cpu_seconds_total",
  startTime: "process_start_time_seconds",
  buildInfo: "keelplane_build_info",
} as const

/** Labels of metrics. */
export const LABEL = {
  method: "rpc_method",
  status: "rpc_status_code",
  store: "store",
  operation: "db_operation_name",
  operationClass: "operation_class",
  reason: "reason",
  quantile: "quantile",
  sweeper: "sweeper",
  state: "state",
  version: "version",
} as const

/** Attributes of spans. */
export const ATTRIBUTE = {
  rpcSystem: "rpc.system.name",
  rpcMethod: "rpc.method",
  rpcStatus: "rpc.status_code",
  errorType: "error.type",
  store: "keelplane.store",
  dbOperation: "db.operation.name",
} as const

/** The instrumentation scope of spans. */
export const TRACER = "keelplane"
