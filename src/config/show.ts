import { stringify } from "yaml"
import type { LoadedConfig } from "./load.ts"

/** The configuration in force as keelplane.yaml would spell it, secrets masked; a comment says where each value was set. */
export function showConfig({ config, origins }: LoadedConfig): string {
  const shown = JSON.parse(JSON.stringify(config)) as object
  const sources = [...origins].map(([key, source]) => `#   ${key}: ${source}\n`)
  const head =
    sources.length === 0
      ? "# everything has its default\n"
      : `# set, the rest has its default:\n${sources.join("")}`
  return head + stringify(shown)
}

/** One key of the configuration as AdminService shows it. */
export interface ShownSetting {
  /** Dotted. */
  readonly key: string
  /** The value as JSON; secrets are `***`. */
  readonly value: string
  /** Where it was set; `default` where nothing set it. */
  readonly source: string
}

/** Every key with its value and source, in the order of the schema. */
export function listSettings({ config, origins }: LoadedConfig): readonly ShownSetting[] {
  const settings: ShownSetting[] = []
  const visit = (value: unknown, path: readonly string[]): void => {
    if (
      typeof value === "object" &&
      value !== null &&
      !Array.isArray(value) &&
      Object.keys(value).length > 0
    ) {
      for (const [key, inner] of Object.entries(value)) visit(inner, [...path, key])
      return
    }
    const key = path.join(".")
    settings.push({ key, value: JSON.stringify(value), source: origins.get(key) ?? "default" })
  }
  visit(JSON.parse(JSON.stringify(config)), [])
  return settings
}
