/** Binding, draining, the ops port and who may connect. */
import assert from "node:assert/strict"
import { spawn } from "node:child_process"
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs"
import { request as httpRequest } from "node:http"
import { type AddressInfo, connect, createServer as createNetServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { after, describe, it } from "node:test"
import { silentLogger } from "../../src/domain/kernel/logger.ts"
import { createServer } from "../../src/rpc/server.ts"
import { open, WAYS } from "./support/harness.ts"

const folder = mkdtempSync(join(tmpdir(), "keelplane-life-"))
after(() => rmSync(folder, { recursive: true }))

function bind(listen: Parameters<typeof createServer>[0]["listen"], authenticated = false) {
  const authenticator = authenticated ? { authenticate: () => undefined } : undefined
  return createServer({ services: [], listen, logger: silentLogger, authenticator })
}

describe("the socket file", { timeout: 60_000 }, () => {
  it("can be used by the group, and by nobody else", async () => {
    const path = join(folder, "mode")
    const server = bind({ unix: path })
    await server.start()
    assert.equal(statSync(path).mode & 0o777, 0o660)
    await server.stop()
    assert.equal(existsSync(path), false)
  })

  it("is replaced where a killed process left it behind", async () => {
    const path = join(folder, "stale")
    const script = `require("net").createServer().listen(${JSON.stringify(path)}, () => console.log("up"))`
    const child = spawn(process.execPath, ["-e", script], { stdio: ["ignore", "pipe", "inherit"] })
    await new Promise((resolve) => child.stdout.once("data", resolve))
    child.kill("SIGKILL")
    await new Promise((resolve) => child.once("exit", resolve))
    assert.ok(existsSync(path))
    const server = bind({ unix: path })
    assert.equal((await server.start()).unix, path)
    await server.stop()
  })

  it("is refused where somebody serves it, and he goes on serving", async () => {
    const path = join(folder, "live")
    const first = bind({ unix: path })
    await first.start()
    await assert.rejects(bind({ unix: path }).start(), /a running process serves .*live already/)
    await new Promise<void>((resolve, reject) => connect(path).once("connect", resolve).once("error", reject))
    await first.stop()
  })

  it("never replaces a file that is something else", async () => {
    const path = join(folder, "precious")
    writeFileSync(path, "data")
    await assert.rejects(bind({ unix: path }).start(), /is not a socket/)
    assert.ok(statSync(path).isFile())
  })
})

describe("binding", { timeout: 60_000 }, () => {
  it("is refused beyond loopback while authentication is off", async () => {
    for (const host of ["0.0.0.0", "::", "192.0.2.1", "example.com"]) {
      await assert.rejects(bind({ tcp: { host, port: 0 } }).start(), /without authentication/)
    }
    const open = bind({ tcp: { host: "0.0.0.0", port: 0 } }, true)
    await open.start()
    await open.stop()
  })

  it("that fails half-way leaves nothing bound", async () => {
    const blocker = createNetServer()
    await new Promise<void>((resolve) => blocker.listen(0, "127.0.0.1", resolve))
    const { port } = blocker.address() as AddressInfo
    const path = join(folder, "half")
    await assert.rejects(bind({ unix: path, tcp: { host: "127.0.0.1", port } }).start(), /EADDRINUSE/)
    assert.equal(existsSync(path), false)
    blocker.close()
  })
})

for (const way of WAYS) {
  describe(`draining over ${way}`, { timeout: 60_000 }, () => {
    it("lets calls in flight finish and ends long polls", async () => {
      await using edge = await open(way)
      const poll = edge.echo({ act: "hang" }, { method: "Poll" })
      const call = edge.echo({ act: "hang" }, { timeoutMs: 4_000 })
      await edge.log.until(() => edge.log.started === 2)
      const drained = edge.server.drain(20_000)
      const polled = await poll
      assert.equal(polled.code, 14)
      assert.equal(polled.reason, "DRAINING")
      assert.ok(polled.retryMs !== undefined)
      assert.equal((await call).reason, "DEADLINE_EXCEEDED", "ended by its own deadline, not by the drain")
      await drained
      await assert.rejects(edge.echo({}).then((outcome) => assert.equal(outcome.code, 0)))
    })

    it("cuts what has not ended after the grace, with a reason", async () => {
      await using edge = await open(way)
      const call = edge.echo({ act: "hang" })
      await edge.log.until(() => edge.log.started === 1)
      await edge.server.drain(200)
      assert.equal((await call).reason, "DRAINING")
      assert.deepEqual(edge.log.aborted, ["DRAINING"])
    })
  })
}

describe("the ops port", { timeout: 60_000 }, () => {
  const get = async (edge: { ops: { port: number } }, path: string, method = "GET") => {
    const answer = await fetch(`http://127.0.0.1:${edge.ops.port}${path}`, { method })
    return { status: answer.status, body: await answer.text(), type: answer.headers.get("content-type") }
  }

  it("tells life, readiness and metrics, and nothing else", async () => {
    let part: string | undefined
    await using edge = await open("grpc-js tcp", {
      ops: {
        metrics: () => ({ contentType: "text/plain; version=0.0.4", body: "up 1\n" }),
        readiness: () => (part === undefined ? [] : [{ part, reason: "is away" }]),
      },
    })
    assert.equal((await get(edge, "/livez")).status, 200)
    assert.deepEqual(await get(edge, "/metrics"), {
      status: 200,
      body: "up 1\n",
      type: "text/plain; version=0.0.4",
    })
    assert.equal((await get(edge, "/readyz")).status, 200)
    part = "store:postgres"
    const notReady = await get(edge, "/readyz")
    assert.equal(notReady.status, 503)
    assert.deepEqual(JSON.parse(notReady.body).notReady, [{ part: "store:postgres", reason: "is away" }])
    assert.equal((await get(edge, "/livez")).status, 200)
    assert.equal((await get(edge, "/secrets")).status, 404)
    assert.equal((await get(edge, "/livez", "POST")).status, 405)
    assert.equal((await get(edge, "/keelplane.probe.v1.ProbeService/Echo")).status, 404)
  })
})

describe("the data port", { timeout: 60_000 }, () => {
  it("serves a web page's request only under a loopback host name", async () => {
    await using edge = await open("json tcp")
    const status = (host: string) =>
      new Promise<number | undefined>((resolve, reject) => {
        const headers = { host, "content-type": "application/json" }
        const path = "/keelplane.probe.v1.ProbeService/Echo"
        const sent = httpRequest({ ...edge.tcp, path, method: "POST", headers }, (answer) => {
          answer.resume()
          resolve(answer.statusCode)
        })
        sent.on("error", reject).end("{}")
      })
    assert.equal(await status(`localhost:${edge.tcp.port}`), 200)
    assert.equal(await status(`127.0.0.1:${edge.tcp.port}`), 200)
    assert.equal(await status("evil.example"), 403)
  })

  it("survives connections that say nothing, half a preface or nonsense", async () => {
    await using edge = await open("grpc-js tcp")
    const sent = [
      "",
      "P",
      "PRI",
      "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\u0000\u0000",
      "\u0000\u0001\u0002",
      "GET",
      "\r\n\r\n",
    ]
    for (const text of sent) {
      const socket = connect(edge.tcp)
      await new Promise((resolve) => socket.once("connect", resolve))
      socket.on("error", () => {})
      socket.end(text)
      await new Promise((resolve) => socket.once("close", resolve).resume())
    }
    assert.equal((await edge.echo({ text: "alive" })).response.text, "alive")
  })

  it("does not wait for idle keep-alive connections when it drains", async () => {
    await using edge = await open("json tcp")
    const socket = connect(edge.tcp)
    socket.write("GET /nothing HTTP/1.1\r\nhost: localhost\r\n\r\n")
    await new Promise((resolve) => socket.once("data", resolve))
    const closed = new Promise((resolve) => socket.once("close", resolve).resume())
    // The test's own time limit is shorter than this grace.
    await edge.server.drain(3_600_000)
    await closed
  })

  it("takes a preface that comes letter by letter", async () => {
    await using edge = await open("grpc-js tcp")
    const proxy = createNetServer((inside) => {
      const outside = connect({ ...edge.tcp, noDelay: true })
      let first = true
      inside.on("data", async (chunk: Buffer) => {
        if (!first) return void outside.write(chunk)
        first = false
        inside.pause()
        for (const byte of chunk.subarray(0, 5)) {
          outside.write(Buffer.of(byte))
          await new Promise((resolve) => setTimeout(resolve, 5))
        }
        outside.write(chunk.subarray(5))
        inside.resume()
      })
      outside.pipe(inside)
      inside.on("error", () => {}).on("close", () => outside.destroy())
      outside.on("error", () => {}).on("close", () => inside.destroy())
    })
    await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve))
    const { grpcClient } = await import("./support/clients.ts")
    const client = grpcClient(`127.0.0.1:${(proxy.address() as AddressInfo).port}`)
    const outcome = await edge.echo({ text: "slow" }).then(() => client)
    assert.ok(outcome)
    const answer = await new Promise((resolve, reject) =>
      client.raw.makeUnaryRequest(
        "/keelplane.probe.v1.ProbeService/Echo",
        () => Buffer.alloc(0),
        (bytes) => bytes.length,
        {},
        (error, length) => (error === null ? resolve(length) : reject(error)),
      ),
    )
    assert.ok(Number(answer) > 0)
    client.close()
    proxy.close()
  })
})
