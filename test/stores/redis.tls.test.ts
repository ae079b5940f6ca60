/**
 * TLS, by a server in this process that takes it off and hands the bytes on, as the packaged Valkey is built without it; and by Redis itself.
 */
import assert from "node:assert/strict"
import { copyFileSync, rmSync } from "node:fs"
import { type AddressInfo, connect } from "node:net"
import { join } from "node:path"
import { describe, it } from "node:test"
import { createServer, type TlsOptions } from "node:tls"
import { fails, put, read, scopeOf } from "../contract/cache-support.ts"
import {
  atEnd,
  freePort,
  freshTenant,
  ownServerSkip,
  redisKinds,
  startRedis,
  testRedis,
} from "../engines/redis.ts"
import { until } from "../engines/redis-cluster.ts"
import { type Authority, certificatesSkip, contentsOf, makeAuthority } from "../support/certificates.ts"

const fresh = () => scopeOf(freshTenant())

/** Takes TLS off in front of a server; answers its port. */
async function takeTlsOff(url: string, options: TlsOptions): Promise<number> {
  const server = createServer(options, (from) => {
    const to = connect(Number(new URL(url).port), "127.0.0.1")
    for (const [one, other] of [
      [from, to],
      [to, from],
    ] as const) {
      one.pipe(other)
      one.on("error", () => other.destroy())
      one.on("close", () => other.destroy())
    }
  })
  server.on("tlsClientError", () => undefined)
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  atEnd(() => {
    server.close()
  })
  return (server.address() as AddressInfo).port
}

async function authority(): Promise<Authority> {
  const made = await makeAuthority()
  atEnd(() => rmSync(made.folder, { recursive: true, force: true }))
  return made
}

describe("redis with TLS", { skip: ownServerSkip || certificatesSkip }, () => {
  it("talks to a server whose certificate the given authority signed, and to no other", async () => {
    const { url } = await startRedis()
    const { ca, sign } = await authority()
    const port = await takeTlsOff(url, contentsOf(await sign("server", ["IP:127.0.0.1", "DNS:cache.test"])))
    const { cache, pubsub } = await testRedis({ url: `rediss://127.0.0.1:${port}?ca_file=${ca}` })
    const scope = fresh()
    await put(cache, scope, "k", "v")
    assert.equal(await read(cache, scope, "k"), "v")
    const frames = pubsub.subscribe(scope, { topics: ["t"], patterns: [], heartbeatIntervalMs: 300_000 })
    assert.equal((await frames[Symbol.asyncIterator]().next()).value?.kind, "heartbeat")
    const named = await testRedis({ url: `rediss://127.0.0.1:${port}?ca_file=${ca}&server_name=cache.test` })
    await put(named.cache, fresh(), "k", "v")
    const foreign = (await authority()).ca
    for (const query of [
      "",
      `?ca_file=${foreign}`,
      `?ca_file=${ca}&server_name=other.test`,
      "?ca_file=/none",
    ]) {
      const { ping, close } = await testRedis({ url: `rediss://127.0.0.1:${port}${query}`, openMs: 300 })
      await fails("STORE_UNAVAILABLE", () => ping(fresh()))
      await close()
    }
  })

  it("shows a certificate of its own where the server asks for one, and the new one after a rotation", async () => {
    const { url } = await startRedis()
    const { ca, folder, sign } = await authority()
    const server = contentsOf(await sign("server", ["IP:127.0.0.1"]))
    const port = await takeTlsOff(url, {
      ...server,
      ca: contentsOf({ certificate: ca, key: ca }).cert,
      requestCert: true,
      rejectUnauthorized: true,
    })
    const stranger = await (await authority()).sign("client", [])
    const [certificate, key] = [join(folder, "own.pem"), join(folder, "own.key")]
    copyFileSync(stranger.certificate, certificate)
    copyFileSync(stranger.key, key)
    const query = `ca_file=${ca}&cert_file=${certificate}&key_file=${key}`
    const { cache, ping } = await testRedis({ url: `rediss://127.0.0.1:${port}?${query}`, openMs: 300 })
    await fails("STORE_UNAVAILABLE", () => ping(fresh()))
    const client = await sign("client", [])
    copyFileSync(client.certificate, certificate)
    copyFileSync(client.key, key)
    await until("the new certificate is shown", async () => {
      await ping(fresh())
      return true
    })
    await put(cache, fresh(), "k", "v")
  })
})

const redis = redisKinds.find(({ name }) => name === "Redis 7")

describe("redis with TLS of its own", {
  skip: (redis?.ownSkip ?? ownServerSkip) || certificatesSkip,
}, () => {
  it("is talked to where both show certificates that one authority signed, and refuses who has none", async () => {
    const { ca, sign } = await authority()
    const [server, client] = [await sign("server", ["IP:127.0.0.1"]), await sign("client", [])]
    const port = await freePort()
    const args = [
      ["--tls-port", `${port}`],
      ["--tls-cert-file", server.certificate],
      ["--tls-key-file", server.key],
      ["--tls-ca-cert-file", ca],
      ["--tls-auth-clients", "yes"],
    ].flat()
    await startRedis(args, undefined, undefined, redis?.program())
    const own = `ca_file=${ca}&cert_file=${client.certificate}&key_file=${client.key}`
    const { cache, pubsub } = await testRedis({ url: `rediss://127.0.0.1:${port}?${own}` })
    const scope = fresh()
    await put(cache, scope, "k", "v")
    assert.equal(await read(cache, scope, "k"), "v")
    const frames = pubsub.subscribe(scope, { topics: ["t"], patterns: [], heartbeatIntervalMs: 300_000 })
    assert.equal((await frames[Symbol.asyncIterator]().next()).value?.kind, "heartbeat")
    const bare = await testRedis({ url: `rediss://127.0.0.1:${port}?ca_file=${ca}`, openMs: 300 })
    await fails("STORE_UNAVAILABLE", () => bare.ping(fresh()))
  })
})
