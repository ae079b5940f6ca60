import { readFile } from "node:fs/promises"
import type { Secret } from "../../config/secret.ts"

/** The URL of a store with the password of its file, where it has one. Works on URLs with several hosts as well. */
export async function urlWithPassword(store: {
  readonly url: Secret
  readonly password_file?: string | undefined
}): Promise<string> {
  const url = store.url.reveal()
  if (store.password_file === undefined) return url
  const password = encodeURIComponent((await readFile(store.password_file, "utf8")).trim())
  return url.replace(
    /^([^:]+:\/\/)(?:([^/?#@]*)@)?/,
    (_, scheme: string, user = "") => `${scheme}${user}:${password}@`,
  )
}
