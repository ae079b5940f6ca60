/** The URL of a cluster: `cassandra://user:password@h1:9042,h2:9042/keyspace?dc=datacenter1&replication=3`. */
import { DomainError } from "../../domain/kernel/errors.ts"

/** How the driver encrypts: not at all, with certificates checked, or with those checked except for the node's name. */
export type TlsMode = "off" | "verify-full" | "verify-ca"

/** What a URL says. */
export interface ClusterAddress {
  /** `host:port`. */
  readonly contactPoints: readonly string[]
  readonly keyspace: string
  /** Undefined: the only one that the cluster has. */
  readonly dataCenter: string | undefined
  readonly user: string | undefined
  readonly password: string | undefined
  /** For a keyspace that is not there yet: copies by data centre, or undefined where it must be. */
  readonly replication: Replication | undefined
  readonly tls: TlsMode
  readonly caFile: string | undefined
}

/** Copies of each row: a number in the local data centre, or per data centre. */
export type Replication =
  | { readonly strategy: "simple"; readonly copies: number }
  | { readonly strategy: "network"; readonly copies: number | ReadonlyMap<string, number> }

const FORM = /^(?:cassandra|scylla):\/\/(?:([^@/]*)@)?([^/?#@]+)\/([^/?#]+)(?:\?([^#]*))?$/
const KEYSPACE = /^[a-z][a-z0-9_]{0,47}$/
const DATA_CENTER = /^[A-Za-z0-9_.-]{1,64}$/
const SETTINGS = new Set(["dc", "replication", "strategy", "tls", "ca_file"])
const DEFAULT_PORT = 9042

/** Reads a URL. Throws INVALID_FIELD, without the URL's text, where it is none. */
export function parseClusterUrl(url: string): ClusterAddress {
  const [, login, hosts, keyspace, search] = FORM.exec(url) ?? []
  if (hosts === undefined || keyspace === undefined)
    throw wrong("must look like cassandra://user@host1:9042,host2:9042/keyspace")
  if (!KEYSPACE.test(keyspace))
    throw wrong("must name a keyspace of 1 to 48 of a-z, 0-9 and _, beginning with a letter")
  const settings = new URLSearchParams(search)
  for (const name of settings.keys()) {
    if (!SETTINGS.has(name)) throw wrong(`has an unknown setting; known are ${[...SETTINGS].join(", ")}`)
  }
  const dataCenter = settings.get("dc") ?? undefined
  if (dataCenter !== undefined && !DATA_CENTER.test(dataCenter))
    throw wrong("has a `dc` that is no name of a data centre")
  return {
    contactPoints: hosts.split(",").map(contactPoint),
    keyspace,
    dataCenter,
    ...loginOf(login),
    replication: replicationOf(settings),
    tls: tlsOf(settings),
    caFile: settings.get("ca_file") ?? undefined,
  }
}

function contactPoint(text: string): string {
  const [, host, port] = /^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.-]+)(?::(\d{1,5}))?$/.exec(text) ?? []
  if (host === undefined || Number(port ?? DEFAULT_PORT) > 65_535) throw wrong("has a host that is none")
  return `${host}:${port ?? DEFAULT_PORT}`
}

function loginOf(login: string | undefined): Pick<ClusterAddress, "user" | "password"> {
  if (login === undefined || login === "") return { user: undefined, password: undefined }
  const colon = login.indexOf(":")
  try {
    const user = decodeURIComponent(colon === -1 ? login : login.slice(0, colon))
    return { user, password: colon === -1 ? undefined : decodeURIComponent(login.slice(colon + 1)) }
  } catch (cause) {
    throw new DomainError("INVALID_FIELD", "url: user and password must be percent-encoded", { cause })
  }
}

function replicationOf(settings: URLSearchParams): Replication | undefined {
  const text = settings.get("replication")
  const strategy = settings.get("strategy") ?? "network"
  if (strategy !== "network" && strategy !== "simple")
    throw wrong("has a `strategy` other than network and simple")
  if (text === null) return undefined
  if (/^[1-9]\d?$/.test(text)) return { strategy, copies: Number(text) }
  const centres = text
    .split(",")
    .map((each) => /^([A-Za-z0-9_.-]{1,64}):([1-9]\d?)$/.exec(each) ?? [])
    .map(([, name, copies]) => [name, Number(copies)] as const)
  const named = centres.flatMap(([name, copies]) => (name === undefined ? [] : [[name, copies] as const]))
  if (named.length < centres.length || strategy === "simple")
    throw wrong("has a `replication` that is neither a number nor, for the network strategy, dc1:3,dc2:3")
  return { strategy, copies: new Map(named) }
}

function tlsOf(settings: URLSearchParams): TlsMode {
  switch (settings.get("tls")) {
    case null:
    case "false":
      return "off"
    case "true":
    case "verify-full":
      return "verify-full"
    case "verify-ca":
      return "verify-ca"
    default:
      throw wrong("has a `tls` other than true, false, verify-full and verify-ca")
  }
}

function wrong(description: string): DomainError {
  return new DomainError("INVALID_FIELD", `url: ${description}`, {
    metadata: { field: "url" },
    violations: [{ field: "url", description }],
  })
}
