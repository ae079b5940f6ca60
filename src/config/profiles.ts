/** Usual mixes of engines by name: where the stores are unless a file, a variable or an option says otherwise. */
import type { Setting, SourceResult } from "./sources.ts"

const POSTGRES = {
  "memory.url": "postgres://",
  "events.url": "postgres://",
  "control.url": "postgres://",
} as const

/** URLs by the part of the key after `stores.`; `postgres://` alone takes everything from PGHOST and its kin. */
const PROFILES: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  embedded: {},
  postgres: POSTGRES,
  full: {
    ...POSTGRES,
    "events.url": "cassandra://127.0.0.1:9042/keelplane",
    "vectors.url": "milvus://127.0.0.1:19530",
    "cache.url": "redis://127.0.0.1:6379",
  },
}

/** What `--profile` takes. */
export const PROFILE_NAMES: readonly string[] = Object.keys(PROFILES)

/** The settings of a profile, or what is wrong with its name. `where` is the option or variable that gave it. */
export function fromProfile(name: string, where: string): SourceResult {
  const urls = Object.hasOwn(PROFILES, name) ? PROFILES[name] : undefined
  if (urls === undefined) {
    const message = `is not a profile; there are ${PROFILE_NAMES.join(", ")}`
    return { settings: [], violations: [{ key: "", source: `${where} ${name}`, message }] }
  }
  const source = `${where} ${name}`
  const settings = Object.entries(urls).map(([key, value]): Setting => {
    return { path: ["stores", ...key.split(".")], value, source }
  })
  return { settings, violations: [] }
}
