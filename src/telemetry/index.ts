/** Everything that leaves the process about the process. */
import type { Logger } from "../domain/kernel/logger.ts"
import { createLogger, type LogOptions } from "./logger.ts"
import { MetricRegistry } from "./metrics.ts"
import { registerProcessMetrics } from "./process-metrics.ts"
import { RpcObserver } from "./rpc-observer.ts"
import { StoreObserver } from "./store-observer.ts"
import type { Tracing } from "./tracing.ts"

/** What {@link startTelemetry} needs. */
export interface TelemetryOptions extends LogOptions {
  /** Base URL of an OTLP/HTTP collector; undefined turns tracing off. */
  readonly otlpEndpoint: string | undefined
  readonly sampleRatio: number
  readonly version: string
}

/** The telemetry of one daemon. */
export interface Telemetry {
  readonly logger: Logger
  readonly metrics: MetricRegistry
  readonly rpc: RpcObserver
  readonly stores: StoreObserver
  /** Spans of the relays' deliveries; undefined when tracing is off. */
  readonly deliveries: Pick<Tracing, "startDelivery"> | undefined
  /** Sends what is left. */
  stop(): Promise<void>
}

/** Starts logs and metrics, and tracing where there is an endpoint. */
export async function startTelemetry(options: TelemetryOptions): Promise<Telemetry> {
  const logger = createLogger(options)
  const metrics = new MetricRegistry()
  const stopProcessMetrics = registerProcessMetrics(metrics, options.version)
  const tracing = await tracingOf(options)
  return {
    logger,
    metrics,
    rpc: new RpcObserver(metrics, tracing),
    stores: new StoreObserver(metrics, tracing),
    deliveries: tracing,
    stop: async () => {
      stopProcessMetrics()
      await tracing?.shutdown()
    },
  }
}

async function tracingOf({
  otlpEndpoint,
  sampleRatio,
  version,
}: TelemetryOptions): Promise<Tracing | undefined> {
  if (otlpEndpoint === undefined) return undefined
  const { startTracing } = await import("./tracing.ts")
  return startTracing({ endpoint: otlpEndpoint, sampleRatio, version })
}
