/** What every statement relies on: the role it runs as and how values are written. */

/** The role that 0001_base.sql makes: it owns nothing and is bound by row-level security. */
export const APP_ROLE = "keelplane_app"

const SETTINGS: readonly (readonly [name: string, value: string])[] = [
  ["search_path", "keelplane, public"],
  ["timezone", "UTC"],
  ["client_min_messages", "warning"],
  ["intervalstyle", "postgres"],
  ["bytea_output", "hex"],
  ["extra_float_digits", "1"],
]

/** A select list that sets them, until the transaction ends or for as long as the connection lives. */
export function settingCalls(until: "transaction" | "connection"): string {
  const local = until === "transaction"
  return SETTINGS.map(([name, value]) => `set_config('${name}', '${value}', ${local})`).join(", ")
}
