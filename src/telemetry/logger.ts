/** The log: JSON lines, or one readable line each on a terminal. Only fields that are on the list get through. */
import pino from "pino"
import type { Logger } from "../domain/kernel/logger.ts"
import { LOG_FIELDS } from "./names.ts"
import { prettyLine } from "./pretty.ts"

/** How to log. */
export interface LogOptions {
  readonly level: "debug" | "info" | "warn" | "error" | "silent"
  readonly format: "auto" | "json" | "pretty"
}

/** Where lines go. */
export interface LogSink {
  readonly isTTY?: boolean | undefined
  write(line: string): unknown
}

/** A logger on `sink`, by default stderr. Errors go under `err`; messages of foreign errors stay out, for they may quote data. */
export function createLogger(options: LogOptions, sink: LogSink = process.stderr): Logger {
  const pretty = options.format === "pretty" || (options.format === "auto" && sink.isTTY === true)
  const stream = pretty
    ? { write: (line: string) => sink.write(prettyLine(line, sink.isTTY === true)) }
    : sink
  const log = pino(
    {
      level: options.level,
      base: null,
      messageKey: "message",
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (level) => ({ level }) },
    },
    stream,
  )
  return {
    info: (fields, message) => log.info(allowed(fields), message),
    warn: (fields, message) => log.warn(allowed(fields), message),
    error: (fields, message) => log.error(allowed(fields), message),
  }
}

const LONGEST_TEXT = 500

function allowed(fields: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const result: Record<string, unknown> = {}
  for (const [key, value] of Object.entries(fields)) {
    if (key === "err") result.err = describeError(value)
    else if (LOG_FIELDS.has(key)) result[key] = plain(value)
  }
  return result
}

function plain(value: unknown): unknown {
  if (typeof value === "string")
    return value.length > LONGEST_TEXT ? `${value.slice(0, LONGEST_TEXT)}…` : value
  if (typeof value === "bigint") return String(value)
  return typeof value === "object" && value !== null ? JSON.stringify(value).slice(0, LONGEST_TEXT) : value
}

/** Messages of these are made by the runtime from the program's own names, or by us. */
const SAFE_NAMES = new Set(["DomainError", "ConfigError", "TypeError", "ReferenceError", "RangeError"])

/** What may be known about an error: its kind, code and place; its words only where they cannot quote data. */
export function describeError(error: unknown, depth = 0): unknown {
  if (!(error instanceof Error)) return { name: typeof error }
  const { code, reason, errno } = error as { code?: unknown; reason?: unknown; errno?: unknown }
  const safe = SAFE_NAMES.has(error.name) || typeof errno === "number"
  const frames = error.stack
    ?.split("\n")
    .filter((line) => /^\s+at /.test(line))
    .slice(0, 8)
  return {
    name: error.name,
    ...(typeof reason === "string" ? { reason } : {}),
    ...(typeof code === "string" ? { code: code.slice(0, 64) } : {}),
    ...(safe ? { message: error.message.slice(0, LONGEST_TEXT) } : {}),
    ...(frames === undefined ? {} : { stack: frames.map((line) => line.trim()) }),
    ...(error.cause === undefined || depth > 3 ? {} : { cause: describeError(error.cause, depth + 1) }),
  }
}
