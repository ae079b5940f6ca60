/** Sources in rising order -> one frozen configuration, or every violation at once. */
import type { z } from "zod"
import { nearest, nodeAt, schemaRoot } from "./keys.ts"
import { fromProfile } from "./profiles.ts"
import { brokenRules } from "./rules.ts"
import { type Config, configSchema } from "./schema.ts"
import { Secret } from "./secret.ts"
import {
  fromEnvironment,
  fromFile,
  fromText,
  type Setting,
  type SourceResult,
  type Violation,
} from "./sources.ts"

/** A setting from the command line. */
export interface FlagSetting {
  /** As the user wrote it, e.g. `--listen`. */
  readonly flag: string
  readonly path: readonly string[]
  readonly value: string
}

/** What to load from. */
export interface ConfigSources {
  /** From --config; otherwise KEELPLANE_CONFIG, otherwise ./keelplane.yaml where there is one. */
  readonly file?: string | undefined
  /** A mix of engines from --profile; otherwise KEELPLANE_PROFILE, otherwise the embedded ones. */
  readonly profile?: string | undefined
  readonly env: Readonly<Record<string, string | undefined>>
  readonly flags?: readonly FlagSetting[] | undefined
}

/** A configuration and where each of its keys was set; keys that are absent have their defaults. */
export interface LoadedConfig {
  readonly config: Config
  /** Dotted key -> source. */
  readonly origins: ReadonlyMap<string, string>
}

/** The configuration is refused. The message lists every violation, one per line. */
export class ConfigError extends Error {
  override readonly name = "ConfigError"
  readonly violations: readonly Violation[]

  constructor(violations: readonly Violation[]) {
    const lines = violations.map(
      ({ key, source, message }) => `  ${key === "" ? source : `${key} (${source})`}: ${message}`,
    )
    super(`the configuration is refused:\n${lines.join("\n")}`)
    this.violations = violations
  }
}

/** Reads, merges, checks and freezes. Throws {@link ConfigError}. */
export function loadConfig(sources: ConfigSources): LoadedConfig {
  const named = sources.file ?? sources.env.KEELPLANE_CONFIG
  const file = fromFile(named ?? "keelplane.yaml", named !== undefined)
  const profile = profileOf(sources)
  const environment = fromEnvironment(sources.env)
  const flags = (sources.flags ?? []).map(({ flag, path, value }): Setting => {
    return { path, value: fromText(path, value), source: flag }
  })
  const violations = [...profile.violations, ...file.violations, ...environment.violations]
  const origins = new Map<string, string>()
  const tree: Record<string, unknown> = {}
  for (const setting of [...profile.settings, ...file.settings, ...environment.settings, ...flags]) {
    violations.push(...put(tree, setting, origins))
  }
  const parsed = configSchema.safeParse(tree)
  if (!parsed.success) {
    violations.push(...parsed.error.issues.flatMap((issue) => explain(issue, origins)))
    violations.push(...rulesOnDefaults(tree, parsed.error, origins))
    throw new ConfigError(violations)
  }
  violations.push(...ruleViolations(parsed.data as Config, origins))
  if (violations.length > 0) throw new ConfigError(violations)
  return { config: freeze(parsed.data) as Config, origins }
}

function profileOf({ profile, env }: ConfigSources): SourceResult {
  if (profile !== undefined) return fromProfile(profile, "--profile")
  if (env.KEELPLANE_PROFILE) return fromProfile(env.KEELPLANE_PROFILE, "environment KEELPLANE_PROFILE")
  return { settings: [], violations: [] }
}

function put(
  tree: Record<string, unknown>,
  setting: Setting,
  origins: Map<string, string>,
): readonly Violation[] {
  const { path, value, source } = setting
  // The schema would pass over it in a map whose entries have names, without a word.
  if (path.includes("__proto__")) return [{ key: path.join("."), source, message: "is not a usable name" }]
  const isEmpty = isMap(value) && Object.keys(value).length === 0
  if (isMap(value) && !isEmpty) {
    return Object.entries(value).flatMap(([key, inner]) =>
      put(tree, { path: [...path, key], value: inner, source }, origins),
    )
  }
  const last = path.at(-1)
  if (last === undefined) {
    return isEmpty ? [] : [{ key: "", source, message: "must hold a map of settings" }]
  }
  let node = tree
  for (const part of path.slice(0, -1)) {
    const next = own(node, part)
    if (!isMap(next)) define(node, part, {})
    node = own(node, part) as Record<string, unknown>
  }
  // An entry that says nothing is one with defaults, and takes nothing from what another source says of it.
  if (!isEmpty || !isMap(own(node, last))) define(node, last, isEmpty ? {} : value)
  origins.set(path.join("."), source)
  return []
}

const isMap = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const own = (node: Record<string, unknown>, key: string): unknown =>
  Object.hasOwn(node, key) ? node[key] : undefined

// A key such as constructor must become one like any other.
const define = (node: Record<string, unknown>, key: string, value: unknown) =>
  Object.defineProperty(node, key, { value, enumerable: true, configurable: true, writable: true })

/** The source that set `path`, or the nearest part of it, or something below it. */
function sourceOf(path: readonly string[], origins: ReadonlyMap<string, string>): string {
  for (let length = path.length; length > 0; length--) {
    const source = origins.get(path.slice(0, length).join("."))
    if (source !== undefined) return source
  }
  const prefix = path.length === 0 ? "" : `${path.join(".")}.`
  for (const [key, source] of origins) if (key.startsWith(prefix)) return source
  return "default"
}

function explain(issue: z.core.$ZodIssue, origins: ReadonlyMap<string, string>): readonly Violation[] {
  const path = issue.path.map(String)
  if (issue.code === "unrecognized_keys") {
    const known = Object.keys(
      nodeAt(path)?.properties ?? (path.length === 0 ? schemaRoot().properties : undefined) ?? {},
    )
    return issue.keys.map((key) => {
      const guess = nearest(key, known)
      const hint = guess === undefined ? "" : `; did you mean ${[...path, guess].join(".")}?`
      return violation([...path, key], `is not a known setting${hint}`, origins)
    })
  }
  if (issue.code === "invalid_union") {
    const messages = issue.errors.flatMap((branch) => branch.map((inner) => inner.message))
    return [
      violation(path, messages.length === 0 ? issue.message : [...new Set(messages)].join("; or "), origins),
    ]
  }
  const [fault = issue] = issue.code === "invalid_key" ? issue.issues : []
  return [violation(path, fault.message, origins)]
}

function violation(
  path: readonly string[],
  message: string,
  origins: ReadonlyMap<string, string>,
): Violation {
  return { key: path.join("."), source: sourceOf(path, origins), message }
}

function ruleViolations(config: Config, origins: ReadonlyMap<string, string>): readonly Violation[] {
  return brokenRules(config).map(({ path, message }) => violation(path, message, origins))
}

/** Broken rules are reported together with wrong values: what is wrong by itself is left out and the rest is looked at. */
function rulesOnDefaults(
  tree: Record<string, unknown>,
  error: z.ZodError,
  origins: ReadonlyMap<string, string>,
): readonly Violation[] {
  const wrong = error.issues.flatMap((issue) =>
    issue.code === "unrecognized_keys"
      ? issue.keys.map((key) => [...issue.path, key].map(String))
      : [issue.path.map(String)],
  )
  const rest = structuredClone(tree)
  let remove = wrong
  let parsed = configSchema.safeParse(rest)
  // An entry that lost a required key is wrong as well, so what is removed grows outwards.
  for (let round = 0; !parsed.success && round < 8; round++) {
    for (const path of remove) removeAt(rest, path)
    parsed = configSchema.safeParse(rest)
    remove = parsed.error?.issues.map((issue) => issue.path.slice(0, -1).map(String)) ?? []
  }
  if (!parsed.success) return []
  const reported = new Set(wrong.map((path) => path.join(".")))
  return ruleViolations(parsed.data as Config, origins).filter(({ key }) => !reported.has(key))
}

function removeAt(tree: Record<string, unknown>, path: readonly string[]): void {
  let node: unknown = tree
  for (const part of path.slice(0, -1)) node = isMap(node) ? own(node, part) : undefined
  const last = path.at(-1)
  if (isMap(node) && last !== undefined) delete node[last]
}

function freeze(value: unknown): unknown {
  if (typeof value !== "object" || value === null || value instanceof Secret) return value
  for (const inner of Object.values(value)) freeze(inner)
  return Object.freeze(value)
}
