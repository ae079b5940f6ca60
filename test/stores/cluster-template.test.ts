import assert from "node:assert/strict"
import { fork } from "node:child_process"
import { once } from "node:events"
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { after, before, describe, it } from "node:test"
import { pathToFileURL } from "node:url"
import { systemScope } from "../../src/domain/kernel/scope.ts"
import { makeClusterTemplate } from "../../src/stores/postgres/cluster-maker.ts"
import { readClusterTemplate } from "../../src/stores/postgres/cluster-template.ts"
import { assertIsolation, getOrCreateSecret, openEmbedded } from "../../src/stores/postgres/index.ts"

const OPENER = new URL("./cluster-opener.ts", import.meta.url)
const LARGEST_BYTES = 8 * 1024 * 1024
const scope = systemScope()

describe("the cluster template", { timeout: 300_000 }, () => {
  let root: string
  let file: string
  let clusterTemplate: URL
  let paths: readonly string[]
  before(async () => {
    root = await mkdtemp(join(tmpdir(), "keelplane-template-"))
    file = join(root, "template.gz")
    clusterTemplate = pathToFileURL(file)
    await writeFile(file, await makeClusterTemplate())
    const template = await readClusterTemplate(clusterTemplate)
    assert.ok(typeof template !== "string", String(template))
    paths = template.manifest.files.map(([path]) => path)
  })
  after(() => rm(root, { recursive: true, force: true }))

  /** Whether the directory holds a whole database that this program serves from. */
  async function assertServes(dataDir: string): Promise<void> {
    const engine = await openEmbedded({ dataDir, clusterTemplate })
    try {
      assert.equal(engine.initdb, undefined, "it came from the template")
      assert.deepEqual(await engine.migrate(), [], "the migrations are in it")
      await assertIsolation(engine.database)
      const present = new Set(await readdir(join(dataDir, "postgres"), { recursive: true }))
      // PostgreSQL removes this one itself when it has read it.
      const missing = paths.filter((path) => !present.has(path) && path !== "pg_stat/pgstat.stat")
      assert.deepEqual(missing, [])
      // The lock's socket has a name of its own each time; a killed child leaves its behind until the lock is taken over.
      const rest = (await readdir(dataDir)).filter((name) => !/^daemon\.[0-9a-f-]{36}\.sock$/.test(name))
      assert.deepEqual(rest.sort(), ["daemon.lock", "postgres"], "the marker is gone")
    } finally {
      await engine.close()
    }
  }

  it("is small", async () => {
    assert.ok((await stat(file)).size < LARGEST_BYTES)
  })

  it("opens migrated, private, without a secret, with the time of this start", async () => {
    const begin = new Date(Date.now() - 1000)
    const keys: string[] = []
    for (const name of ["first", "second"]) {
      const dataDir = join(root, name)
      const engine = await openEmbedded({ dataDir, clusterTemplate })
      const { rows } = await engine.database.query(scope, {
        text: "select * from keelplane.platform_settings",
      })
      assert.deepEqual(rows, [])
      keys.push((await getOrCreateSecret(engine.database, "page-token-key", 32)).toString("hex"))
      for (const { appliedAt } of await engine.listMigrations()) assert.ok(appliedAt && appliedAt >= begin)
      assert.equal((await stat(join(dataDir, "postgres", "PG_VERSION"))).mode & 0o777, 0o600)
      await engine.close()
      const again = await openEmbedded({ dataDir, clusterTemplate })
      const key = await getOrCreateSecret(again.database, "page-token-key", 32)
      assert.equal(key.toString("hex"), keys.at(-1), "it survives a restart")
      await again.close()
    }
    assert.notEqual(keys[0], keys[1])
  })

  it("is unpacked anew after a SIGKILL in the middle", async () => {
    const last = String(paths.length - 1)
    const moments: readonly (readonly [string, string])[] = [
      ["writeFile", "0"],
      ["writeFile", "300"],
      ["writeFile", last],
      ["open", "100"],
    ]
    for (const [kind, count] of moments) {
      const dataDir = join(root, `killed-${kind}-${count}`)
      const opener = fork(OPENER, [dataDir, file, kind, count], { stdio: "inherit" })
      assert.deepEqual(await once(opener, "exit"), [null, "SIGKILL"], `${kind} ${count}`)
      const left = await readdir(dataDir)
      assert.ok(left.includes("postgres.initialising") && left.includes("postgres"), left.join())
      await assertServes(dataDir)
    }
  })

  it("is passed over in favour of initdb when it is missing, made for another program or damaged", async () => {
    const whole = await readFile(file)
    const end = whole.indexOf("\n")
    const fit = JSON.parse(whole.subarray(0, end).toString())
    const remade = (change: object) =>
      Buffer.concat([Buffer.from(JSON.stringify({ ...fit, ...change })), whole.subarray(end)])
    const flipped = Buffer.from(whole)
    flipped.writeUInt8(flipped.readUInt8(whole.length >> 1) ^ 1, whole.length >> 1)
    const cases: readonly (readonly [Buffer, RegExp])[] = [
      [remade({ pglite: "0.0.1" }), /has pglite 0\.0\.1, this program \d/],
      [remade({ pgvector: "0.0.1" }), /has pgvector 0\.0\.1/],
      [remade({ migrations: "00" }), /has migrations 00/],
      [remade({ format: 0 }), /has format 0/],
      [whole.subarray(0, whole.length - 1000), /damaged/],
      [flipped, /damaged/],
      [Buffer.alloc(0), /damaged/],
      [Buffer.from("nonsense\nmore"), /damaged/],
    ]
    const other = join(root, "other.gz")
    for (const [bytes, reason] of cases) {
      await writeFile(other, bytes)
      const answer = await readClusterTemplate(pathToFileURL(other))
      assert.ok(typeof answer === "string" && reason.test(answer), String(answer).slice(0, 200))
    }
    const engine = await openEmbedded({
      dataDir: join(root, "without"),
      clusterTemplate: pathToFileURL(other),
    })
    assert.match(engine.initdb ?? "", /damaged/)
    assert.ok((await engine.migrate()).length > 0)
    await engine.ping(scope)
    await engine.close()
    const absent = await readClusterTemplate(pathToFileURL(join(root, "absent.gz")))
    assert.equal(absent, "this build has no cluster template")
  })
})
