/** How the daemon starts, stops and guards what is its own. */
import assert from "node:assert/strict"
import { execFile, spawnSync } from "node:child_process"
import { chmodSync, existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import test from "node:test"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { CacheService } from "../../src/gen/keelplane/v1/cache_service_pb.ts"
import { EventService } from "../../src/gen/keelplane/v1/event_service_pb.ts"
import { JobService } from "../../src/gen/keelplane/v1/job_service_pb.ts"
import { foreignEnvironment, startDaemon, until } from "../support/daemon.ts"
import { CallError, connect } from "../support/grpc-client.ts"

const run = promisify(execFile)
const main = fileURLToPath(new URL("../../dist/main.js", import.meta.url))

function folder(): string {
  return mkdtempSync(join(tmpdir(), "keelplane-life-"))
}

/** Connects to a socket file as another user; answers `connected` or the error's text. */
function connectAs(path: string, uid: number, gid: number): string {
  const script = `
    process.setgroups([]); process.setgid(${gid}); process.setuid(${uid});
    require("node:net").connect(process.argv[1])
      .on("connect", () => { console.log("connected"); process.exit(0) })
      .on("error", (error) => { console.log(String(error)); process.exit(0) })`
  return spawnSync(process.execPath, ["-e", script, path], {
    encoding: "utf8",
    timeout: 60_000,
  }).stdout.trim()
}

test("data survives a graceful restart, and a second start is quick", async (t) => {
  const dataDir = folder()
  try {
    const first = await startDaemon({ dataDir })
    const channel = first.channel()
    await channel.stub(EventService).appendEvents({ stream: "life-1", events: [{ type: "born" }] })
    channel.close()
    assert.equal(await first.end("SIGTERM"), 0)
    const second = await startDaemon({ dataDir })
    const again = second.channel()
    const { events } = await again
      .stub(EventService)
      .listStreams({})
      .then(() => readAll(again))
    assert.deepEqual(events, ["born"])
    again.close()
    assert.equal(await second.end("SIGINT"), 0)
    t.diagnostic(
      `ready after ${Math.round(first.readyMs)} ms the first time, ${Math.round(second.readyMs)} ms the second`,
    )
  } finally {
    rmSync(dataDir, { recursive: true, force: true })
  }
})

async function readAll(channel: ReturnType<typeof connect>): Promise<{ events: string[] }> {
  const events: string[] = []
  for await (const part of channel.stub(EventService).readStream({ stream: "life-1" })) {
    events.push(...part.events.map((event) => event.type))
  }
  return { events }
}

test("a second daemon on the same data directory is refused with one clear line", async () => {
  const daemon = await startDaemon()
  try {
    const second = spawnSync(
      process.execPath,
      [main, "serve", "--data-dir", daemon.dataDir, "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"],
      { encoding: "utf8", timeout: 60_000, env: foreignEnvironment() },
    )
    assert.notEqual(second.status, 0)
    const text = `${second.stdout}${second.stderr}`
    assert.ok(text.includes(daemon.dataDir), text)
    assert.ok(text.includes(String(daemon.process.pid)), text)
    assert.ok(!/\n\s+at /.test(text), `a stack trace is not a clear line: ${text}`)
  } finally {
    await daemon.stop()
  }
})

test("SIGTERM lets calls in flight finish, tells streams to come back, and exits 0", async () => {
  const daemon = await startDaemon()
  const channel = daemon.channel()
  try {
    const frames = channel.stub(EventService).subscribe({})[Symbol.asyncIterator]()
    await frames.next()
    const waiting = channel
      .stub(JobService)
      .claimJobs({ workerId: "w", queues: ["q"], wait: { seconds: 30n } })
    const claimed = waiting.then(
      (answer) => `answered ${answer.jobs.length}`,
      (error: unknown) => (error instanceof CallError ? error.reason : String(error)),
    )
    const next = frames.next()
    const appended = channel
      .stub(EventService)
      .appendEvents({ stream: "drain-1", events: [{ type: "last" }] })
    await appended
    await next
    const exited = daemon.end("SIGTERM")
    await assert.rejects(
      (async () => {
        for (;;) if ((await frames.next()).done) throw new Error("the stream ended without a status")
      })(),
      (error) => error instanceof CallError && error.code === 14 && error.reason === "DRAINING",
    )
    assert.ok(["answered 0", "DRAINING"].includes(await claimed), await claimed)
    assert.equal(await exited, 0)
    assert.match(daemon.output(), /"message":"stopped"/)
  } finally {
    channel.close()
    await daemon.stop()
  }
})

test("a Unix socket serves another uid of the group; a stale file is replaced, a live one is not", async (t) => {
  const dir = folder()
  const path = join(dir, "keelplane.sock")
  try {
    const first = await startDaemon({ args: ["--unix", path] })
    t.after(() => first.stop())
    assert.equal(statSync(path).mode & 0o777, 0o660)
    const channel = connect(`unix:${path}`)
    await channel.stub(CacheService).set({ key: "u", value: { case: "text", value: "1" } })
    channel.close()
    if (process.getuid?.() === 0) {
      // Only root can become somebody else; a member of the group connects, an outsider does not.
      chmodSync(dir, 0o755)
      assert.equal(connectAs(path, 65_534, statSync(path).gid), "connected")
      assert.match(connectAs(path, 65_534, 65_534), /EACCES/)
    } else {
      t.diagnostic("not root: another uid was not tried")
    }
    const other = folder()
    const refused = spawnSync(
      process.execPath,
      [
        main,
        "serve",
        "--data-dir",
        other,
        "--listen",
        "127.0.0.1:0",
        "--ops-listen",
        "127.0.0.1:0",
        "--unix",
        path,
      ],
      { encoding: "utf8", timeout: 60_000, env: foreignEnvironment() },
    )
    rmSync(other, { recursive: true, force: true })
    assert.notEqual(refused.status, 0, "a live socket was taken over")
    assert.ok(`${refused.stdout}${refused.stderr}`.includes(path))
    await first.end("SIGKILL")
    assert.ok(existsSync(path), "SIGKILL leaves the file behind; otherwise this proves nothing")
    const second = await startDaemon({ args: ["--unix", path] })
    t.after(() => second.stop())
    const again = connect(`unix:${path}`)
    await again.stub(CacheService).get({ key: "u" })
    again.close()
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
})

test("the command line answers help, version and configuration, and refuses what it does not know", async () => {
  const { stdout: help } = await run(process.execPath, [main, "--help"])
  for (const verb of ["serve", "migrate", "config", "version"])
    assert.match(help, new RegExp(`\\b${verb}\\b`))
  const { stdout: version } = await run(process.execPath, [main, "version"])
  assert.match(version, /\d+\.\d+\.\d+/)
  const dir = folder()
  try {
    const file = join(dir, "keelplane.yaml")
    writeFileSync(file, "listen:\n  data: 0.0.0.0:50051\nno_such_key: 1\nlimits:\n  another_bad_key: 2\n")
    chmodSync(file, 0o600)
    const bad = spawnSync(process.execPath, [main, "config", "check", "--config", file], {
      encoding: "utf8",
      env: foreignEnvironment(),
    })
    assert.notEqual(bad.status, 0)
    for (const part of ["no_such_key", "another_bad_key", "listen.data"]) {
      assert.ok(
        `${bad.stdout}${bad.stderr}`.includes(part),
        `${part} is not named: ${bad.stdout}${bad.stderr}`,
      )
    }
    const dry = spawnSync(process.execPath, [main, "migrate", "--dry-run", "--data-dir", join(dir, "data")], {
      encoding: "utf8",
      timeout: 60_000,
      env: foreignEnvironment(),
    })
    assert.equal(dry.status, 0, dry.stderr)
    assert.match(dry.stdout, /0001/)
    const unknown = spawnSync(process.execPath, [main, "fly"], {
      encoding: "utf8",
      env: foreignEnvironment(),
    })
    assert.equal(unknown.status, 2)
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
})

test("a second SIGTERM leaves at once", async () => {
  const daemon = await startDaemon()
  const channel = daemon.channel()
  try {
    // A stream whose client never reads keeps the drain from ending early.
    const claim = channel
      .stub(JobService)
      .claimJobs({ workerId: "w", queues: ["q"], wait: { seconds: 60n } }, { timeoutMs: 120_000 })
      .catch(() => undefined)
    await until(async () => (await fetch(`http://${daemon.opsAddress}/livez`)).ok, "the daemon to be live")
    daemon.process.kill("SIGTERM")
    const started = performance.now()
    await daemon.end("SIGTERM")
    assert.ok(performance.now() - started < 30_000)
    await claim
  } finally {
    channel.close()
    await daemon.stop()
  }
})
