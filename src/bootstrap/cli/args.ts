import { parseArgs } from "node:util"
import { nearest } from "../../config/keys.ts"
import type { FlagSetting } from "../../config/load.ts"

/** The command line cannot be understood; the message says why in one sentence. */
export class UsageError extends Error {
  override readonly name = "UsageError"
}

/** A command line, understood. */
export interface Arguments {
  readonly command:
    | "serve"
    | "migrate"
    | "export"
    | "import"
    | "config check"
    | "config show"
    | "version"
    | "help"
  readonly configFile: string | undefined
  /** A mix of engines by name. */
  readonly profile: string | undefined
  readonly flags: readonly FlagSetting[]
  readonly dryRun: boolean
  /** Whose data to export. */
  readonly tenant: string | undefined
  /** The archive; undefined: standard output or input. */
  readonly file: string | undefined
}

/** Flags that set one configuration key each: name -> path and help text. */
export const SETTING_FLAGS: Readonly<Record<string, { path: readonly string[]; help: string }>> = {
  "data-dir": { path: ["data_dir"], help: "folder of the embedded engines' data" },
  listen: { path: ["listen", "data"], help: "host:port of the API" },
  "ops-listen": { path: ["listen", "ops"], help: "host:port of health and metrics" },
  unix: { path: ["listen", "unix"], help: "Unix socket for the API" },
  auth: { path: ["auth", "mode"], help: "none or required" },
  "token-file": { path: ["auth", "token_file"], help: "file with platform tokens" },
  "log-level": { path: ["telemetry", "log_level"], help: "debug, info, warn, error or silent" },
  "log-format": { path: ["telemetry", "log_format"], help: "auto, json or pretty" },
  "grace-ms": { path: ["shutdown", "grace_ms"], help: "how long a drain waits" },
}

const COMMANDS = ["serve", "migrate", "export", "import", "config", "version", "help"]

/** Options of one command. */
const OWN_OPTIONS: readonly (readonly [option: string, command: Arguments["command"]])[] = [
  ["dry-run", "migrate"],
  ["tenant", "export"],
  ["out", "export"],
  ["in", "import"],
]

/** Reads the command line. Throws {@link UsageError}. */
export function parseArguments(argv: readonly string[]): Arguments {
  const { values, positionals } = parse(argv)
  const flags: FlagSetting[] = Object.entries(SETTING_FLAGS).flatMap(([name, { path }]) => {
    const value = values[name]
    return typeof value === "string" ? [{ flag: `--${name}`, path, value }] : []
  })
  for (const assignment of (values.set as string[] | undefined) ?? []) flags.push(assigned(assignment))
  const command = commandOf(values, positionals)
  for (const [option, owner] of OWN_OPTIONS) {
    if (values[option] !== undefined && command !== owner)
      throw new UsageError(`--${option} belongs to ${owner}`)
  }
  if (command === "export" && values.tenant === undefined) throw new UsageError("export wants --tenant")
  return {
    command,
    configFile: values.config as string | undefined,
    profile: values.profile as string | undefined,
    flags,
    dryRun: values["dry-run"] === true,
    tenant: values.tenant as string | undefined,
    file: (values.out ?? values.in) as string | undefined,
  }
}

function parse(argv: readonly string[]) {
  const text = { type: "string" } as const
  try {
    return parseArgs({
      args: [...argv],
      allowPositionals: true,
      options: {
        ...Object.fromEntries(Object.keys(SETTING_FLAGS).map((name) => [name, text])),
        config: { type: "string", short: "c" },
        profile: text,
        set: { type: "string", multiple: true },
        "dry-run": { type: "boolean" },
        tenant: text,
        out: text,
        in: text,
        help: { type: "boolean", short: "h" },
        version: { type: "boolean", short: "v" },
      },
    }) as { values: Record<string, string | boolean | string[] | undefined>; positionals: string[] }
  } catch (error) {
    throw new UsageError((error as Error).message.split(". ")[0] ?? "unknown option")
  }
}

function assigned(assignment: string): FlagSetting {
  const at = assignment.indexOf("=")
  if (at < 1)
    throw new UsageError(`--set wants key=value, for example --set limits.depth=32; not "${assignment}"`)
  return { flag: "--set", path: assignment.slice(0, at).split("."), value: assignment.slice(at + 1) }
}

function commandOf(values: Record<string, unknown>, positionals: readonly string[]): Arguments["command"] {
  if (values.help === true) return "help"
  if (values.version === true) return "version"
  const [first, second, ...rest] = positionals
  if (first === undefined) throw new UsageError("a command is missing")
  if (first === "config") {
    if ((second === "check" || second === "show") && rest.length === 0) return `config ${second}`
    throw new UsageError("config wants check or show")
  }
  if (second !== undefined) throw new UsageError(`"${second}" is one argument too many`)
  switch (first) {
    case "serve":
    case "migrate":
    case "export":
    case "import":
    case "version":
    case "help":
      return first
  }
  const guess = nearest(first, COMMANDS)
  throw new UsageError(`"${first}" is not a command${guess === undefined ? "" : `; did you mean ${guess}?`}`)
}
