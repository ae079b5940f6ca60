/** TLS as libpq means it, passwords and certificates, and what libpq's environment adds to a URL. */
import assert from "node:assert/strict"
import { execFileSync } from "node:child_process"
import { randomUUID } from "node:crypto"
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterEach, before, describe, it } from "node:test"
import { openServer } from "../../src/stores/postgres/index.ts"
import { administer, ask, atEnd, ownServerSkip, startPostgres } from "../engines/postgres.ts"
import type { PostgresServer } from "../engines/postgres-server.ts"
import { until } from "../support/until.ts"
import {
  backend,
  fresh,
  type OwnServer,
  ownServer,
  reason,
  running,
  sleep,
  slowWrite,
} from "./postgres-server.support.ts"

const folder = mkdtempSync(join(tmpdir(), "keelplane-tls-"))
atEnd(async () => rmSync(folder, { recursive: true, force: true }))
const at = (name: string) => join(folder, name)

/** Makes `name.pem` and `name.key`, signed by `authority` or by itself. */
function certificate(name: string, subject: string, authority?: string, names?: string): void {
  const key = [
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:prime256v1",
    "-nodes",
    "-keyout",
    at(`${name}.key`),
  ]
  const signed =
    authority === undefined ? [] : ["-CA", at(`${authority}.pem`), "-CAkey", at(`${authority}.key`)]
  const extension = names === undefined ? [] : ["-addext", `subjectAltName=${names}`]
  const args = ["-x509", ...key, ...signed, ...extension, "-days", "2", "-subj", `/CN=${subject}`]
  execFileSync("openssl", ["req", ...args, "-out", at(`${name}.pem`)], { stdio: "ignore" })
}

function makeCertificates(): void {
  certificate("authority", "keelplane test authority")
  certificate("stranger", "another authority")
  certificate("server", "localhost", "authority", "DNS:localhost")
  certificate("client", "certified", "authority")
  certificate("impostor", "certified", "stranger")
}

const HBA = [
  "local all all trust",
  "hostssl all certified all cert",
  "hostssl all secretive all scram-sha-256",
  "hostssl all postgres all trust",
]

describe("a PostgreSQL server with TLS", { skip: ownServerSkip, timeout: 120_000 }, () => {
  let server: PostgresServer
  /** Over the Unix socket, which needs neither TLS nor a password. */
  let inside: string
  before(async () => {
    makeCertificates()
    const text = (name: string) => readFileSync(at(name), "utf8")
    server = await startPostgres({
      settings: {
        ssl: "on",
        ssl_cert_file: "../server.pem",
        ssl_key_file: "../server.key",
        ssl_ca_file: "../authority.pem",
      },
      files: {
        "server.pem": text("server.pem"),
        "server.key": text("server.key"),
        "authority.pem": text("authority.pem"),
      },
      hba: HBA,
    })
    inside = server.socketUrl
    await (await opened(inside)).migrate()
    await administer(
      inside,
      "create role certified login; grant keelplane_app to certified",
      "create role secretive login password 'a:b\\c'; grant keelplane_app to secretive",
    )
  })

  async function opened(url: string, max = 1) {
    const engine = await openServer({ url, max })
    atEnd(() => engine.close())
    return engine
  }

  const url = (query: Record<string, string>, host = "localhost", user = "postgres") =>
    `postgres://${user}@${host}:${server.port}/postgres?${new URLSearchParams(query)}`

  /** Opens, calls and answers whether that went over TLS. */
  async function encrypted(address: string): Promise<boolean> {
    const engine = await openServer({ url: address })
    try {
      const pid = await backend(engine.database)
      const rows = await ask(inside, `select ssl from pg_stat_ssl where pid = ${pid}`)
      return rows[0]?.ssl === true
    } finally {
      await engine.close()
    }
  }

  const root = { sslrootcert: at("authority.pem") }
  const wrong = { sslrootcert: at("stranger.pem") }

  it("takes what each sslmode allows", async () => {
    assert.equal(await encrypted(inside), false)
    assert.equal(await encrypted(url({ sslmode: "require" })), true)
    assert.equal(await encrypted(url({ sslmode: "require" }, "127.0.0.1")), true)
    assert.equal(await encrypted(url({ sslmode: "require", ...root }, "127.0.0.1")), true)
    assert.equal(await encrypted(url({ sslmode: "verify-ca", ...root }, "127.0.0.1")), true)
    assert.equal(await encrypted(url({ sslmode: "verify-full", ...root })), true)
    assert.equal(await encrypted(url(root)), true)
  })

  it("refuses what each sslmode forbids", async () => {
    await assert.rejects(encrypted(url({ sslmode: "disable" })), reason("STORE_AUTH"))
    await assert.rejects(encrypted(url({})), reason("STORE_AUTH"))
    const untrusted = [
      url({ sslmode: "require", ...wrong }),
      url({ sslmode: "verify-ca", ...wrong }),
      url({ sslmode: "verify-full", ...wrong }),
      url({ sslmode: "verify-full" }),
      url({ sslmode: "verify-full", sslrootcert: "system" }),
      url({ sslmode: "verify-full", ...root }, "127.0.0.1"),
      url(root, "127.0.0.1"),
    ]
    for (const address of untrusted) {
      await assert.rejects(encrypted(address), (error: Error) => {
        assert.match(error.message, /TLS/, address)
        return reason("STORE_UNAVAILABLE")(error)
      })
      await assert.rejects((await opened(address)).migrate(), reason("STORE_UNAVAILABLE"))
    }
  })

  it("names the parameter that cannot be used, before it connects", async () => {
    const cases: readonly (readonly [Record<string, string>, RegExp])[] = [
      [{ sslmode: "prefer" }, /sslmode/],
      [{ sslmode: "verify-ca" }, /sslrootcert/],
      [{ sslmode: "require", sslrootcert: at("nowhere.pem") }, /sslrootcert/],
      [{ sslmode: "require", sslcert: at("client.pem") }, /sslkey/],
      [{ sslmode: "require", sslcert: at("client.pem"), sslkey: at("nowhere.key") }, /sslkey/],
    ]
    for (const [query, pattern] of cases) {
      await assert.rejects(openServer({ url: url(query) }), (error: Error) => {
        assert.match(error.message, pattern)
        assert.ok(!error.message.includes(folder))
        return reason("FAILED_PRECONDITION")(error)
      })
    }
    await assert.rejects(openServer({ url: "postgres://[" }), reason("FAILED_PRECONDITION"))
  })

  it("shows its own certificate", async () => {
    const own = { sslmode: "verify-full", ...root, sslcert: at("client.pem"), sslkey: at("client.key") }
    assert.equal(await encrypted(url(own, "localhost", "certified")), true)
    const none = { sslmode: "verify-full", ...root }
    await assert.rejects(encrypted(url(none, "localhost", "certified")), reason("STORE_AUTH"))
    const forged = { ...none, sslcert: at("impostor.pem"), sslkey: at("impostor.key") }
    await assert.rejects(
      encrypted(url(forged, "localhost", "certified")),
      reason("STORE_AUTH", "STORE_UNAVAILABLE"),
    )
  })

  it("cancels over TLS, with its certificate, at the cost of no connection", async () => {
    const own = { sslmode: "verify-full", ...root, sslcert: at("client.pem"), sslkey: at("client.key") }
    const { database, stats } = await opened(url(own, "localhost", "certified"))
    const process = await backend(database)
    for (const [make, expected] of [
      [sleep, "CANCELLED"],
      [slowWrite, "OUTCOME_UNKNOWN"],
    ] as const) {
      const tag = randomUUID()
      const leave = new AbortController()
      const call = assert.rejects(
        database.query({ ...fresh(), signal: leave.signal }, make(tag)),
        reason(expected),
      )
      await until("the statement runs", async () => (await running(inside, tag)) === 1)
      leave.abort()
      await call
      await until("the statement has stopped", async () => (await running(inside, tag)) === 0)
      await until("the connection is back", () => stats().inUse === 0)
    }
    assert.equal(await backend(database), process)
  })

  it("proves that it knows the password without sending it", async () => {
    const query = { sslmode: "verify-full", ...root }
    const secretive = (password: string) =>
      url(query, "localhost", `secretive:${encodeURIComponent(password)}`)
    assert.equal(await encrypted(secretive("a:b\\c")), true)
    await assert.rejects(encrypted(secretive("wrong")), reason("STORE_AUTH"))
    await assert.rejects(
      encrypted(url(query, "localhost", "secretive")),
      reason("STORE_AUTH", "STORE_UNAVAILABLE"),
    )
  })

  it("takes from libpq's environment what the URL lacks", async () => {
    writeFileSync(at("pgpass"), `localhost:${server.port}:*:secretive:a\\:b\\\\c\n`)
    chmodSync(at("pgpass"), 0o600)
    const place = { PGHOST: "localhost", PGPORT: String(server.port), PGDATABASE: "postgres" }
    const tls = { PGSSLMODE: "verify-full", PGSSLROOTCERT: at("authority.pem") }
    const certified = { PGUSER: "certified", PGSSLCERT: at("client.pem"), PGSSLKEY: at("client.key") }
    const cases: readonly (readonly [string, Record<string, string>])[] = [
      ["postgres://", { ...place, ...tls, PGUSER: "secretive", PGPASSWORD: "a:b\\c" }],
      ["postgres://", { ...place, ...tls, PGUSER: "secretive", PGPASSFILE: at("pgpass") }],
      ["postgresql://secretive@localhost", { ...place, ...tls, PGPASSFILE: at("pgpass") }],
      ["postgres:///postgres", { ...place, ...tls, ...certified }],
      [
        `postgres://postgres@127.0.0.1/postgres?sslmode=require&sslrootcert=`,
        { ...place, PGSSLMODE: "disable" },
      ],
    ]
    for (const [address, environment] of cases) {
      const kept = { ...process.env }
      Object.assign(process.env, environment)
      try {
        assert.equal(await encrypted(address), true)
      } finally {
        for (const name of Object.keys(environment)) delete process.env[name]
        Object.assign(process.env, kept)
      }
    }
  })

  describe("that has none", () => {
    let own: OwnServer
    before(async () => {
      own = await ownServer()
    })
    afterEach(() => own.closeAll())

    it("is refused where TLS is asked for", async () => {
      const engine = await own.open({ url: `${own.server.url}?sslmode=require` })
      await assert.rejects(engine.ping(fresh()), (error: Error) => {
        assert.match(error.message, /TLS/)
        return reason("STORE_UNAVAILABLE")(error)
      })
    })
  })
})
