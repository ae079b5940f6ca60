import { DomainError, notFound } from "../../domain/kernel/errors.ts"
import { Health, HealthCheckResponse_ServingStatus as Serving } from "../../gen/grpc/health/v1/health_pb.ts"
import { type Service, service } from "../handler.ts"
import type { HealthRegistry } from "./health-registry.ts"

const MAX_LISTED = 100

function statusOf(serving: boolean): { status: Serving } {
  return { status: serving ? Serving.SERVING : Serving.NOT_SERVING }
}

/** grpc.health.v1 over the registry. Open to callers without a credential: a kubelet has none. */
export function createHealthService(registry: HealthRegistry): Service {
  const handlers = service(Health, {
    check(request) {
      const serving = registry.get(request.service)
      if (serving === undefined) throw notFound("service", request.service)
      return statusOf(serving)
    },
    list() {
      const all = [...registry.list()]
      if (all.length > MAX_LISTED)
        throw new DomainError("LIMIT_EXCEEDED", "there are too many services to list")
      return { statuses: Object.fromEntries(all.map(([name, serving]) => [name, statusOf(serving)])) }
    },
    watch: (request, ctx) => watch(registry, request.service, ctx.signal),
  })
  return { ...handlers, access: "public" }
}

async function* watch(registry: HealthRegistry, name: string, signal: AbortSignal) {
  let wake: (() => void) | undefined
  const stop = registry.watch((changed) => {
    if (changed === name) wake?.()
  })
  const aborted = () => wake?.()
  signal.addEventListener("abort", aborted)
  try {
    let last: Serving | undefined
    while (!signal.aborted) {
      const serving = registry.get(name)
      const { status } = serving === undefined ? { status: Serving.SERVICE_UNKNOWN } : statusOf(serving)
      if (status !== last) {
        last = status
        yield { status }
        continue
      }
      await new Promise<void>((resolve) => {
        wake = resolve
      })
    }
    throw signal.reason
  } finally {
    stop()
    signal.removeEventListener("abort", aborted)
  }
}
