/** Where a server is and who comes, out of a URL. */

/** What `milvus://user:password@host:19530/database?tls=true` says. */
export interface MilvusAddress {
  readonly address: string
  readonly username: string
  readonly password: string
  readonly database: string
  readonly tls: boolean
  /** A file with the authorities' certificates; the system's where undefined. */
  readonly caFile: string | undefined
}

const DEFAULT_PORT = "19530"
const DEFAULT_DATABASE = "default"

/** Reads a URL. Throws TypeError, which quotes nothing of it, for one that is none. */
export function parseAddress(url: string): MilvusAddress {
  let parsed: URL
  try {
    parsed = new URL(url)
  } catch {
    throw new TypeError("the vector store's url is not a URL")
  }
  if (parsed.protocol !== "milvus:" || parsed.hostname === "") {
    throw new TypeError("the vector store's url must be milvus://user@host:19530/database")
  }
  for (const key of parsed.searchParams.keys()) {
    if (key !== "tls" && key !== "ca")
      throw new TypeError(`the vector store's url has an unknown setting "${key}"`)
  }
  const tls = parsed.searchParams.get("tls") ?? "false"
  if (tls !== "true" && tls !== "false")
    throw new TypeError("tls in the vector store's url must be true or false")
  return {
    address: `${parsed.hostname}:${parsed.port === "" ? DEFAULT_PORT : parsed.port}`,
    username: decodeURIComponent(parsed.username),
    password: decodeURIComponent(parsed.password),
    database: decodeURIComponent(parsed.pathname.slice(1)) || DEFAULT_DATABASE,
    tls: tls === "true",
    caFile: parsed.searchParams.get("ca") ?? undefined,
  }
}
