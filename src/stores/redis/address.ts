/**
 * Where the server is: one server, the nodes of a cluster, or sentinels that know a master, in the forms `redis://`,
 * `redis+cluster://` and `redis+sentinel://`, with TLS `rediss`. Written by hand, as a URL with several hosts is none to Node.
 */

/** A host and port. */
export interface Endpoint {
  readonly host: string
  readonly port: number
}

/** Files and the name for TLS. */
export interface TlsFiles {
  readonly ca: string | undefined
  readonly certificate: string | undefined
  readonly key: string | undefined
  /** The name that the server's certificate must have, where it is not the host's. */
  readonly serverName: string | undefined
}

/** A URL taken apart. */
export interface Address {
  readonly kind: "single" | "cluster" | "sentinel"
  readonly endpoints: readonly Endpoint[]
  readonly user: string | undefined
  readonly password: string | undefined
  readonly passwordFile: string | undefined
  readonly database: number
  /** What the sentinels call their master. */
  readonly master: string
  readonly sentinelUser: string | undefined
  readonly sentinelPasswordFile: string | undefined
  /** Undefined without TLS. */
  readonly tls: TlsFiles | undefined
}

const FORM = /^redis(s?)(?:\+(cluster|sentinel))?:\/\/(?:([^/?#]*)@)?([^/?#]+)(?:\/([^?#]*))?(?:\?([^#]*))?$/
const PORT = 6_379
const SENTINEL_PORT = 26_379
const OPTIONS = [
  "ca_file",
  "cert_file",
  "key_file",
  "server_name",
  "password_file",
  "db",
  "sentinel_user",
  "sentinel_password_file",
]

/** Takes a URL apart. Raises TypeError, which says what is wrong and shows nothing of the URL but the names in it. */
export function parseAddress(url: string): Address {
  const found = FORM.exec(url)
  if (found === null)
    throw new TypeError("the URL must be redis://..., redis+cluster://... or redis+sentinel://...")
  const [, secure, form, login = "", hosts = "", path = "", query = ""] = found
  const kind = form === "cluster" || form === "sentinel" ? form : "single"
  const options = new URLSearchParams(query)
  for (const name of options.keys()) {
    if (!OPTIONS.includes(name))
      throw new TypeError(`the URL has an unknown option ${name}; known: ${OPTIONS.join(", ")}`)
  }
  const option = (name: string) => options.get(name) ?? undefined
  const endpoints = hosts.split(",").map((text) => endpoint(text, kind === "sentinel" ? SENTINEL_PORT : PORT))
  if (kind === "single" && endpoints.length > 1)
    throw new TypeError("redis:// takes one host; for more there is redis+cluster://")
  if (kind === "sentinel" && path === "")
    throw new TypeError("the URL must end with the name of the master: redis+sentinel://host/name")
  const colon = login.indexOf(":")
  const user = decoded(colon < 0 ? login : login.slice(0, colon))
  return {
    kind,
    endpoints,
    user: user === "" ? undefined : user,
    password: colon < 0 ? undefined : decoded(login.slice(colon + 1)),
    passwordFile: option("password_file"),
    database: database(kind === "single" && path !== "" ? path : (option("db") ?? "0"), kind),
    master: kind === "sentinel" ? decoded(path) : "",
    sentinelUser: option("sentinel_user"),
    sentinelPasswordFile: option("sentinel_password_file"),
    tls:
      secure === "s"
        ? {
            ca: option("ca_file"),
            certificate: option("cert_file"),
            key: option("key_file"),
            serverName: option("server_name"),
          }
        : undefined,
  }
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    throw new TypeError("the URL has a percent sign that is not the beginning of an encoded character")
  }
}

function endpoint(text: string, usual: number): Endpoint {
  const found = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(text)
  const host = found?.[1] ?? found?.[2]
  const port = Number(found?.[3] ?? usual)
  if (host === undefined || port < 1 || port > 65_535)
    throw new TypeError("the URL has a host that is none: host:port is wanted")
  return { host, port }
}

function database(text: string, kind: Address["kind"]): number {
  if (!/^\d{1,4}$/.test(text)) throw new TypeError("the URL's database must be a number from 0")
  if (kind === "cluster" && Number(text) !== 0) throw new TypeError("a cluster has only the database 0")
  return Number(text)
}
