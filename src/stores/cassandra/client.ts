/** The driver's client, with nothing left to its defaults that could send a write twice or talk to an unproved node. */
import { readFileSync } from "node:fs"
import cassandra from "cassandra-driver"
import { DomainError } from "../../domain/kernel/errors.ts"
import { steady } from "./control.ts"
import { connectError } from "./errors.ts"
import type { ClusterAddress, TlsMode } from "./url.ts"

const { policies } = cassandra

/** Gives the password at each new connection. */
export type PasswordSource = () => string | Promise<string>

/** What a client is made of. */
export interface ClientSettings {
  readonly address: ClusterAddress
  readonly password?: PasswordSource | undefined
  readonly connectMs: number
  /** The longest wait for an answer where an execution does not say less. */
  readonly timeoutMs: number
  /** After how long an idempotent read is asked of a second node, too; 0: never. */
  readonly speculativeMs: number
}

/** How long nodes may take to agree on a schema, in seconds. */
const AGREEMENT_S = 30
/** Between two attempts to reach a node that was lost. */
const RECONNECT_MIN_MS = 100
const RECONNECT_MAX_MS = 5_000
/** Most statements that stay prepared; there are about a hundred. */
const MAX_PREPARED = 1_000

/** What became of the last login. The driver does not tell callers why it has no connection any more. */
class Logins extends cassandra.metrics.DefaultMetrics {
  refused = false

  override onAuthenticationError(error: Error): void {
    if (error instanceof cassandra.errors.AuthenticationError) this.refused = true
  }
}

/** Whether the cluster refused the credentials of the client the last time that it logged in. */
export function isLoginRefused({ metrics }: cassandra.Client): boolean {
  return metrics instanceof Logins && metrics.refused
}

/** A connected client, in `keyspace` when given. Rejects with STORE_UNAVAILABLE, STORE_AUTH or SCHEMA_MISMATCH. */
export async function connectClient(
  settings: ClientSettings,
  keyspace: string | undefined,
): Promise<cassandra.Client> {
  const dataCenter = settings.address.dataCenter ?? (await onlyDataCenter(settings))
  const local = new policies.loadBalancing.DCAwareRoundRobinPolicy(dataCenter)
  const client = await connected(clientOf(settings, new policies.loadBalancing.TokenAwarePolicy(local)))
  if (keyspace === undefined) return client
  try {
    // Not by the driver's option: where there is no such keyspace it would leave its connections open for ever.
    await client.execute(`use ${keyspace}`, [], { prepare: false })
    return client
  } catch (error) {
    await client.shutdown()
    throw connectError(error)
  }
}

async function connected(client: cassandra.Client): Promise<cassandra.Client> {
  steady(client)
  try {
    await client.connect()
    return client
  } catch (error) {
    await Promise.allSettled([client.shutdown()])
    throw connectError(error)
  }
}

/** The name of the cluster's data centre, where it has but one. */
async function onlyDataCenter(settings: ClientSettings): Promise<string> {
  const client = await connected(clientOf(settings, new policies.loadBalancing.RoundRobinPolicy()))
  try {
    const names = new Set(client.hosts.values().map(({ datacenter }) => datacenter))
    const [name] = names
    if (name === undefined || names.size > 1) {
      throw new DomainError(
        "STORE_UNAVAILABLE",
        "the cluster has several data centres; say in the url which one is near, with dc=",
        { metadata: { store: "cassandra" } },
      )
    }
    return name
  } finally {
    await client.shutdown()
  }
}

function clientOf(
  settings: ClientSettings,
  loadBalancing: cassandra.policies.loadBalancing.LoadBalancingPolicy,
): cassandra.Client {
  const { address, speculativeMs } = settings
  const logins = new Logins()
  const welcomed = () => {
    logins.refused = false
  }
  const authProvider = address.user === undefined ? undefined : loginOf(settings, address.user, welcomed)
  const sslOptions = address.tls === "off" ? undefined : tlsOf(address.tls, address.caFile)
  return new cassandra.Client({
    contactPoints: [...address.contactPoints],
    applicationName: "keelplane",
    metrics: logins,
    ...(authProvider === undefined ? {} : { authProvider }),
    ...(sslOptions === undefined ? {} : { sslOptions }),
    policies: {
      loadBalancing,
      // Each execution names its own; this is for those of the driver itself.
      retry: new policies.retry.FallthroughRetryPolicy(),
      reconnection: new policies.reconnection.ExponentialReconnectionPolicy(
        RECONNECT_MIN_MS,
        RECONNECT_MAX_MS,
        false,
      ),
      speculativeExecution:
        speculativeMs > 0
          ? new policies.speculativeExecution.ConstantSpeculativeExecutionPolicy(speculativeMs, 1)
          : new policies.speculativeExecution.NoSpeculativeExecutionPolicy(),
    },
    // The newest that the driver speaks: asking for more costs a connection each time.
    protocolOptions: { maxVersion: 4, maxSchemaAgreementWaitSeconds: AGREEMENT_S },
    socketOptions: { connectTimeout: settings.connectMs, readTimeout: settings.timeoutMs },
    encoding: { useBigIntAsLong: true, useUndefinedAsUnset: true },
    queryOptions: { prepare: true, isIdempotent: false },
    maxPrepared: MAX_PREPARED,
    // What schemas look like is of no use here, and reading them costs at each change.
    isMetadataSyncEnabled: true,
  })
}

/** The driver itself would check no certificate. */
function tlsOf(mode: TlsMode, caFile: string | undefined) {
  const named = mode === "verify-full"
  return {
    rejectUnauthorized: true,
    ...(caFile === undefined ? {} : { ca: readFileSync(caFile) }),
    ...(named ? {} : { checkServerIdentity: () => undefined }),
  }
}

type Respond = (error: unknown, token?: Buffer) => void

/** Plain login with a password that may change while the daemon runs. */
function loginOf(settings: ClientSettings, user: string, welcomed: () => void): cassandra.auth.AuthProvider {
  const source = settings.password ?? (() => settings.address.password ?? "")
  // Some servers ask for the token right away, others first ask for it.
  const respond = async (callback: Respond) => {
    try {
      callback(null, Buffer.from(`\0${user}\0${await source()}`, "utf8"))
    } catch (error) {
      callback(error)
    }
  }
  class Login extends cassandra.auth.PlainTextAuthProvider {
    override newAuthenticator(): cassandra.auth.Authenticator {
      return {
        initialResponse: (callback) => void respond(callback as Respond),
        evaluateChallenge: (_challenge, callback) => void respond(callback as Respond),
        onAuthenticationSuccess: welcomed,
      }
    }
  }
  return new Login(user, "")
}
