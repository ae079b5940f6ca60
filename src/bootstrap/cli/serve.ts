import { resolve } from "node:path"
import type { LoadedConfig } from "../../config/load.ts"
import type { Config } from "../../config/schema.ts"
import type { Addresses } from "../../rpc/server-options.ts"
import type { Daemon } from "../daemon.ts"
import { openEngines } from "../engines/open.ts"
import { version } from "../version.ts"
import { EXIT } from "./exit-codes.ts"

/** Runs the daemon until it is told to stop; answers the exit code. */
export async function serve(loaded: LoadedConfig): Promise<number> {
  const stop = stopSignals()
  // The embedded database opens in a thread of its own while this one reads the rest of the program.
  const engines = openEngines(loaded.config)
  engines.catch(() => {})
  const { startDaemon } = await import("../daemon.ts")
  const daemon = await startDaemon(loaded, engines)
  stop.started()
  dieOfDefects(daemon)
  process.stdout.write(welcome(loaded.config, daemon.addresses))
  const { logger } = daemon.telemetry
  logger.info({ version: version(), pid: process.pid, dataDir: resolve(loaded.config.data_dir) }, "ready")
  if (loaded.config.auth.mode === "none") {
    logger.warn({ tenant: "default" }, "authentication is off: local callers are the tenant `default`")
  }
  const why = await Promise.race([stop.first, daemon.drainRequested.then(() => "AdminService.Drain")])
  logger.info({ signal: why }, "draining")
  const forced = stop.next().then(() => EXIT.forced)
  const code = await Promise.race([daemon.drain().then(() => EXIT.ok), forced])
  logger.info({ code }, code === EXIT.ok ? "stopped" : "stopped by a second signal, without waiting")
  // Timers of libraries may linger; what had to be finished is finished.
  process.exit(code)
}

/** A start that has not come to an end so long after a signal never will. */
const START_LIMIT_MS = 10_000

interface StopSignals {
  readonly first: Promise<string>
  /** The next signal after those that were already waited for. */
  next(): Promise<string>
  /** The start is over: from now on the drain decides how long the end takes. */
  started(): void
}

/**
 * A signal during the start stops the daemon as soon as it is up, or ends the process when the start takes too long; a second
 * one ends the process at once.
 */
function stopSignals(): StopSignals {
  const first = Promise.withResolvers<string>()
  const second = Promise.withResolvers<string>()
  let seen = 0
  let waited = false
  let starting = true
  let limit: NodeJS.Timeout | undefined
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.on(signal, () => {
      seen += 1
      if (seen === 1) {
        first.resolve(signal)
        if (starting) limit = setTimeout(() => dieOf(signal), START_LIMIT_MS)
      } else if (starting) dieOf(signal)
      else if (waited) second.resolve(signal)
      else process.exit(EXIT.forced)
    })
  }
  return {
    first: first.promise,
    next: () => {
      waited = true
      return second.promise
    },
    started: () => {
      starting = false
      clearTimeout(limit)
    },
  }
}

/**
 * Ends the process in the kernel: exit() waits for threads, which is for ever when one is stuck in the file system that the
 * start hangs on. Only the first process of a container cannot end itself that way.
 */
function dieOf(signal: "SIGTERM" | "SIGINT"): void {
  process.stderr.write(`keelplane: ended by ${signal} before the start was complete\n`)
  process.removeAllListeners(signal)
  process.kill(process.pid, signal)
  if (process.pid === 1) process.exit(EXIT.forced)
}

/** After a defect nothing is known about the state: log it and end. The embedded store recovers as after a power cut. */
function dieOfDefects({ telemetry }: Daemon): void {
  const die = (err: unknown): void => {
    telemetry.logger.error({ err }, "defect: the daemon ends")
    process.exit(EXIT.failure)
  }
  process.on("uncaughtException", die)
  process.on("unhandledRejection", die)
}

/** What to do with a daemon that has just started. */
function welcome(config: Config, { tcp, unix, ops }: Addresses): string {
  const host = (address: { readonly host: string; readonly port: number }): string => {
    const name = address.host === "0.0.0.0" || address.host === "::" ? "127.0.0.1" : address.host
    return `${name.includes(":") ? `[${name}]` : name}:${address.port}`
  }
  const lines = [`keelplane ${version()} is ready`]
  if (tcp !== undefined) lines.push(`  API    ${host(tcp)} (gRPC, gRPC-Web, Connect, JSON)`)
  if (unix !== undefined) lines.push(`  API    unix:${unix}`)
  if (ops !== undefined) lines.push(`  ops    http://${host(ops)}/readyz and /metrics`)
  lines.push(`  data   ${resolve(config.data_dir)}`)
  const required = config.auth.mode === "required"
  lines.push(
    required
      ? "  auth   a platform token or an API key"
      : "  auth   none: local callers are the tenant `default` and need no key",
  )
  if (tcp !== undefined) lines.push("", "Try it:", ...examples(host(tcp), required))
  return `${lines.join("\n")}\n\n`
}

function examples(address: string, required: boolean): readonly string[] {
  const header = required ? " -H 'authorization: Bearer TOKEN'" : ""
  const service = "keelplane.v1.CacheService"
  const set = JSON.stringify({ key: "greeting", text: "hello", ttl: "600s" })
  const get = JSON.stringify({ key: "greeting" })
  const json = "-H 'content-type: application/json'"
  return [
    `  grpcurl -plaintext${header} ${address} list`,
    `  curl -s${header} ${json} -d '${set}' http://${address}/${service}/Set`,
    `  curl -s${header} ${json} -d '${get}' http://${address}/${service}/Get`,
    `  grpcurl -plaintext${header} -d '${get}' ${address} ${service}/Get`,
  ]
}
