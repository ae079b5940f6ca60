/** Clients in other languages, generated from the proto, against the built daemon; and the README's own commands. */
import assert from "node:assert/strict"
import { execFile } from "node:child_process"
import { mkdtempSync, readdirSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import test, { after, before } from "node:test"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { type Daemon, startDaemon } from "../support/daemon.ts"
import { go, goTool, pathOf, python, skipReason } from "../support/tools.ts"

const run = promisify(execFile)
const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))))
const work = mkdtempSync(join(tmpdir(), "keelplane-clients-"))
const interpreter = await python()
const compiler = await go()
const grpcurl = await goTool("grpcurl")

let daemon: Daemon

before(async () => {
  daemon = await startDaemon()
})

after(async () => {
  await daemon?.stop()
  rmSync(work, { recursive: true, force: true })
})

function protos(folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".proto"))
    .map((name) => join(folder, name))
}

test("the Python tour", { skip: skipReason(interpreter) }, async () => {
  const gen = join(root, "examples", "python", "gen")
  rmSync(gen, { recursive: true, force: true })
  const { mkdirSync } = await import("node:fs")
  mkdirSync(gen, { recursive: true })
  const files = [...protos("proto/keelplane"), ...protos("proto/third_party/buf")]
  await run(
    pathOf(interpreter),
    [
      "-m",
      "grpc_tools.protoc",
      "-Iproto/third_party",
      "-Iproto",
      `--python_out=${gen}`,
      `--grpc_python_out=${gen}`,
      ...files,
    ],
    { cwd: root },
  )
  const { stdout } = await run(pathOf(interpreter), ["examples/python/tour.py", daemon.address], {
    cwd: root,
    timeout: 120_000,
  })
  assert.match(stdout, /memory: tokens/)
  assert.match(stdout, /REVISION_MISMATCH/)
  assert.match(stdout, /^ok$/m)
})

test("the Go tour", { skip: skipReason(compiler) }, async () => {
  const path = `${dirname(pathOf(compiler))}:${process.env.PATH ?? ""}`
  const env = { ...process.env, PATH: path }
  const buf = join(root, "node_modules", ".bin", "buf")
  await run(buf, ["generate", "--template", "examples/go/buf.gen.yaml"], { cwd: root, env, timeout: 600_000 })
  const binary = join(work, "tour")
  await run(pathOf(compiler), ["build", "-o", binary, "."], {
    cwd: join(root, "examples", "go"),
    env,
    timeout: 600_000,
  })
  const { stdout } = await run(binary, [daemon.address], { timeout: 120_000 })
  assert.match(stdout, /memory: drain/)
  assert.match(stdout, /REVISION_MISMATCH/)
  assert.match(stdout, /^ok$/m)
})

async function curl(path: string, body: object): Promise<{ status: number; body: Record<string, unknown> }> {
  const response = await fetch(`http://${daemon.address}/${path}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  })
  return { status: response.status, body: (await response.json()) as Record<string, unknown> }
}

test("grpcurl lists, describes and calls without a proto file", { skip: skipReason(grpcurl) }, async () => {
  const tool = pathOf(grpcurl)
  const list = await run(tool, ["-plaintext", daemon.address, "list"])
  for (const name of [
    "Memory",
    "Event",
    "Session",
    "Job",
    "Audit",
    "Cache",
    "Lock",
    "RateLimit",
    "Control",
    "Billing",
    "Admin",
  ]) {
    assert.match(list.stdout, new RegExp(`keelplane\\.v1\\.${name}Service`))
  }
  assert.match(list.stdout, /grpc\.health\.v1\.Health/)
  const described = await run(tool, [
    "-plaintext",
    daemon.address,
    "describe",
    "keelplane.v1.CacheService.Get",
  ])
  assert.match(described.stdout, /CacheServiceGetRequest/)
  await run(tool, [
    "-plaintext",
    "-d",
    '{"key":"hello","text":"world"}',
    daemon.address,
    "keelplane.v1.CacheService/Set",
  ])
  const got = await run(tool, [
    "-plaintext",
    "-d",
    '{"key":"hello"}',
    daemon.address,
    "keelplane.v1.CacheService/Get",
  ])
  assert.match(got.stdout, /"text": "world"/)
  const health = await run(tool, ["-plaintext", daemon.address, "grpc.health.v1.Health/Check"])
  assert.match(health.stdout, /SERVING/)
})

test("JSON over HTTP/1.1 answers, and fails with details", async () => {
  const set = await curl("keelplane.v1.CacheService/Set", { key: "json", text: "yes" })
  assert.equal(set.status, 200)
  const got = await curl("keelplane.v1.CacheService/Get", { key: "json" })
  assert.equal((got.body.entry as { text: string }).text, "yes")
  const bad = await curl("keelplane.v1.CacheService/Get", {})
  assert.equal(bad.status, 400)
  assert.equal(bad.body.code, "invalid_argument")
  const absent = await curl("keelplane.v1.MemoryService/GetCollection", { collectionId: "absent" })
  assert.equal(absent.status, 404)
})
