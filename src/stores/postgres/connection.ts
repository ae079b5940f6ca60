/** Where a server is and how to talk to it: the URL, what libpq's environment adds, and TLS modes with libpq's meaning. */
import { readFile } from "node:fs/promises"
import type { ConnectionOptions } from "node:tls"
import pg from "pg"
import { DomainError } from "../../domain/kernel/errors.ts"

/** A server's address, for requests beside its sessions. */
export interface ServerAddress {
  /** A name, an IP address, or the folder of a Unix socket. */
  readonly host: string
  readonly port: number
  readonly ssl: ConnectionOptions | false
}

/** The parameters of the URL that are about TLS, and the variables that stand in for them. */
const TLS_PARAMETERS = {
  sslmode: "PGSSLMODE",
  sslrootcert: "PGSSLROOTCERT",
  sslcert: "PGSSLCERT",
  sslkey: "PGSSLKEY",
  sslpassword: undefined,
} as const

type TlsParameter = keyof typeof TLS_PARAMETERS
type TlsParameters = Partial<Record<TlsParameter, string>>

/** Modes without a fall-back to plain text, which would be as good as none. */
const MODES = ["disable", "require", "verify-ca", "verify-full"]

/**
 * What pg needs to connect to `url`. Parts that it lacks come from PGHOST, PGPORT, PGUSER, PGPASSWORD or PGPASSFILE, PGDATABASE and
 * the PGSSL variables. Certificates are read anew each time, so that renewed ones take effect. Throws FAILED_PRECONDITION,
 * naming the parameter, when one cannot be used.
 */
export async function connectionConfig(url: string): Promise<pg.ClientConfig> {
  const { base, tls } = splitTls(url)
  let host: string
  try {
    host = new pg.Client({ connectionString: base, ssl: false }).host
  } catch (cause) {
    throw unusable("the URL of the SQL store cannot be read", cause)
  }
  return {
    connectionString: base,
    application_name: "keelplane",
    keepAlive: true,
    keepAliveInitialDelayMillis: 30_000,
    ssl: await tlsOptions(host, tls),
  }
}

/** Where sessions made with `config` go. */
export function addressOf(config: pg.ClientConfig): ServerAddress {
  const { host, port } = new pg.Client({ ...config, ssl: false })
  return { host, port, ssl: typeof config.ssl === "object" ? config.ssl : false }
}

/** Takes the TLS parameters out of `url`, which pg would read in another sense. */
function splitTls(url: string): { readonly base: string; readonly tls: TlsParameters } {
  const [place = "", ...rest] = url.split("?")
  const query = new URLSearchParams(rest.join("?"))
  const tls: TlsParameters = {}
  for (const [name, variable] of Object.entries(TLS_PARAMETERS)) {
    const value = query.get(name) ?? (variable === undefined ? null : (process.env[variable] ?? null))
    if (value !== null && value !== "") tls[name as TlsParameter] = value
    query.delete(name)
  }
  const left = query.toString()
  return { base: left === "" ? place : `${place}?${left}`, tls }
}

async function tlsOptions(host: string, tls: TlsParameters): Promise<ConnectionOptions | false> {
  const { sslrootcert, sslcert, sslkey, sslpassword } = tls
  const named = [sslrootcert, sslcert, sslkey].some((file) => file !== undefined)
  const mode = tls.sslmode ?? (named ? "verify-full" : "disable")
  if (!MODES.includes(mode)) throw unusable(`sslmode must be one of ${MODES.join(", ")}`)
  if (mode === "disable" || host.startsWith("/")) return false
  if ((sslcert === undefined) !== (sslkey === undefined))
    throw unusable("sslcert and sslkey must be given together")
  // `system` is libpq's word for the roots that the system, here Node, trusts.
  const root = sslrootcert === "system" ? undefined : sslrootcert
  if (mode === "verify-ca" && root === undefined)
    throw unusable(
      "sslmode=verify-ca needs sslrootcert, or anybody's certificate of a public authority would do",
    )
  return {
    // Whom the certificate must name.
    host,
    ...(root === undefined ? {} : { ca: await pem("sslrootcert", root) }),
    ...(sslcert === undefined ? {} : { cert: await pem("sslcert", sslcert) }),
    ...(sslkey === undefined ? {} : { key: await pem("sslkey", sslkey) }),
    ...(sslpassword === undefined ? {} : { passphrase: sslpassword }),
    ...verification(mode, root !== undefined),
  }
}

/** As in libpq, `require` with a root certificate is `verify-ca`. */
function verification(mode: string, hasRoot: boolean): ConnectionOptions {
  if (mode === "verify-full") return {}
  return hasRoot ? { checkServerIdentity: () => undefined } : { rejectUnauthorized: false }
}

async function pem(parameter: string, file: string): Promise<string> {
  try {
    return await readFile(file, "utf8")
  } catch (cause) {
    throw unusable(`the file that ${parameter} names cannot be read`, cause)
  }
}

function unusable(message: string, cause?: unknown): DomainError {
  return new DomainError("FAILED_PRECONDITION", message, { metadata: { store: "postgres" }, cause })
}
