/** Where settings come from. Each source becomes a list of (path, value, where), so that a complaint can name its origin. */
import { readFileSync } from "node:fs"
import { LineCounter, parse, parseDocument } from "yaml"
import { nodeAt, takesText } from "./keys.ts"

/** One value from one source. */
export interface Setting {
  readonly path: readonly string[]
  readonly value: unknown
  /** For people: `keelplane.yaml`, `environment KEELPLANE_X`, `--listen`. */
  readonly source: string
}

/** Something wrong with a source or a value. */
export interface Violation {
  /** Dotted key, or the empty text when the source as a whole is at fault. */
  readonly key: string
  readonly source: string
  /** What is wrong and what would be right; never the value of a secret. */
  readonly message: string
}

/** What reading one source gave. */
export interface SourceResult {
  readonly settings: readonly Setting[]
  readonly violations: readonly Violation[]
}

/** Short names beside the systematic ones. */
const SHORT_NAMES: Readonly<Record<string, readonly string[]>> = {
  KEELPLANE_LISTEN: ["listen", "data"],
  KEELPLANE_OPS_LISTEN: ["listen", "ops"],
  KEELPLANE_UNIX: ["listen", "unix"],
  KEELPLANE_LOG_LEVEL: ["telemetry", "log_level"],
  KEELPLANE_LOG_FORMAT: ["telemetry", "log_format"],
  KEELPLANE_TOKEN_FILE: ["auth", "token_file"],
}

/** Variables that say where settings come from. */
const NOT_SETTINGS: ReadonlySet<string> = new Set(["KEELPLANE_CONFIG", "KEELPLANE_PROFILE"])

// Kubernetes puts these into every pod of a namespace that has a Service called keelplane or keelplane-something.
const SERVICE_LINK =
  /^KEELPLANE_(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)$/

/** Reads a YAML (or JSON) file. `required` false makes a missing file an empty one. */
export function fromFile(file: string, required: boolean): SourceResult {
  let content: string
  try {
    content = readFileSync(file, "utf8")
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? "unknown error"
    if (code === "ENOENT" && !required) return { settings: [], violations: [] }
    return { settings: [], violations: [{ key: "", source: file, message: `cannot be read: ${code}` }] }
  }
  const lines = new LineCounter()
  const document = parseDocument(content, { lineCounter: lines, uniqueKeys: true })
  const faults = [...document.errors, ...document.warnings]
  if (faults.length > 0) {
    return {
      settings: [],
      violations: faults.map((fault) => ({
        key: "",
        source: `${file}:${lines.linePos(fault.pos[0]).line}`,
        message: `is not valid YAML: ${fault.code}`,
      })),
    }
  }
  let value: unknown
  try {
    value = document.toJS()
  } catch {
    // Aliases that expand into too much are the one thing that parses and yet has no value.
    return {
      settings: [],
      violations: [
        { key: "", source: file, message: "is not usable YAML: its aliases expand into too much" },
      ],
    }
  }
  if (value === null || value === undefined) return { settings: [], violations: [] }
  return { settings: [{ path: [], value, source: file }], violations: [] }
}

/** Reads KEELPLANE_* and OTEL_EXPORTER_OTLP_ENDPOINT. A nested key is joined by double underscores. */
export function fromEnvironment(env: Readonly<Record<string, string | undefined>>): SourceResult {
  const settings: Setting[] = []
  const violations: Violation[] = []
  const otlp = env.OTEL_EXPORTER_OTLP_ENDPOINT
  if (otlp !== undefined && otlp !== "") {
    settings.push({
      path: ["telemetry", "otlp_endpoint"],
      value: otlp,
      source: "environment OTEL_EXPORTER_OTLP_ENDPOINT",
    })
  }
  for (const name of Object.keys(env).sort()) {
    const value = env[name]
    if (!name.startsWith("KEELPLANE_") || NOT_SETTINGS.has(name) || value === undefined) continue
    const path = SHORT_NAMES[name] ?? name.slice("KEELPLANE_".length).toLowerCase().split("__")
    if (nodeAt(path) === undefined) {
      if (SERVICE_LINK.test(name)) continue
      violations.push({
        key: path.join("."),
        source: `environment ${name}`,
        message: "is not a known setting",
      })
      continue
    }
    settings.push({ path, value: fromText(path, value), source: `environment ${name}` })
  }
  return { settings, violations }
}

/** Reads a value written as text (a variable or a flag) the way its key wants it. */
export function fromText(path: readonly string[], value: string): unknown {
  const node = nodeAt(path)
  if (node === undefined || takesText(node)) return value
  try {
    return parse(value) as unknown
  } catch {
    return value
  }
}
