import assert from "node:assert/strict"
import { spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import { chmod, chown, mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { after, before, describe, it } from "node:test"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import { lockDataDir } from "../../src/stores/postgres/data-dir-lock.ts"
import { placeOfSelf, startBeat } from "../../src/stores/postgres/data-dir-pulse.ts"

const LOCK = "daemon.lock"
const MODULE = new URL("../../src/stores/postgres/data-dir-lock.ts", import.meta.url).href
/** The first process of a PID namespace of its own, as in a container. */
const CONTAINER = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]

/** Locks a directory in a process of its own, says how that went, and stays. */
function locker(directory: string, { wrapper = [], uid }: { wrapper?: readonly string[]; uid?: number }) {
  const script = `
    import { lockDataDir } from ${JSON.stringify(MODULE)}
    ${uid === undefined ? "" : `process.setgroups([]); process.setgid(${uid}); process.setuid(${uid})`}
    setInterval(() => {}, 1000)
    await lockDataDir(${JSON.stringify(directory)}).then(
      () => console.log("held by " + process.pid), (error) => console.log(error.message))`
  const [command = "", ...args] = [...wrapper, process.execPath, "--input-type=module", "-e", script]
  return spawn(command, args, { stdio: ["ignore", "pipe", "inherit"] })
}

async function outcome(child: ReturnType<typeof locker>): Promise<string> {
  const [text] = await once(child.stdout, "data")
  return String(text).trim()
}

async function killed(child: ReturnType<typeof locker>): Promise<void> {
  const closed = once(child, "close")
  child.kill("SIGKILL")
  await closed
}

/** A lock as the first process of another container leaves it where the file system has no sockets. */
async function foreignLock(directory: string, ageMs: number): Promise<string> {
  const path = join(directory, LOCK)
  const place = { ...(await placeOfSelf()), namespace: "pid:[1]" }
  await writeFile(path, JSON.stringify({ pid: 1, started: "1", nonce: "foreign", place }))
  const time = new Date(Date.now() - ageMs)
  await utimes(path, time, time)
  return path
}

function heldBy(pid: number) {
  return (error: unknown) =>
    error instanceof DomainError &&
    error.reason === "FAILED_PRECONDITION" &&
    error.metadata.pid === String(pid)
}

describe("the data directory's lock", { timeout: 60_000 }, () => {
  let root: string
  before(async () => {
    root = await mkdtemp(join(tmpdir(), "keelplane-lock-"))
  })
  after(() => rm(root, { recursive: true, force: true }))

  it("makes the directory private, keeps others out and goes with its holder", async () => {
    const directory = join(root, "deep", "data")
    const lock = await lockDataDir(directory)
    assert.equal((await stat(directory)).mode & 0o777, 0o700)
    await assert.rejects(lockDataDir(directory), heldBy(process.pid))
    await lock.release()
    await lock.release()
    assert.deepEqual(await readdir(directory), [])
    await (await lockDataDir(directory)).release()
  })

  it("has one winner among many that come at once, over a dead holder's file too", async () => {
    const dead = spawn(process.execPath, ["-e", ""])
    await once(dead, "exit")
    for (const stale of ["", "not json", JSON.stringify({ pid: dead.pid, started: "1", nonce: "n" })]) {
      const directory = await mkdtemp(join(root, "race-"))
      await writeFile(join(directory, LOCK), stale)
      const all = await Promise.allSettled(Array.from({ length: 20 }, () => lockDataDir(directory)))
      const won = all.filter((result) => result.status === "fulfilled")
      assert.equal(won.length, 1)
      await won[0]?.value.release()
      assert.deepEqual(await readdir(directory), [])
    }
  })

  it("is not fooled by a process that got the dead holder's id", async (t) => {
    if (process.platform !== "linux") return t.skip("needs /proc to tell when a process began")
    const directory = await mkdtemp(join(root, "reused-"))
    await writeFile(join(directory, LOCK), JSON.stringify({ pid: process.pid, started: "1", nonce: "n" }))
    await (await lockDataDir(directory)).release()
  })

  it("does not remove a lock that is no longer its own", async () => {
    const directory = await mkdtemp(join(root, "taken-"))
    const lock = await lockDataDir(directory)
    await rm(join(directory, LOCK))
    const other = await lockDataDir(directory)
    await lock.release()
    await assert.rejects(lockDataDir(directory), heldBy(process.pid))
    await other.release()
  })

  it("lives and dies with its holder across PID namespaces", async (t) => {
    const [command = "", ...args] = [...CONTAINER, "true"]
    if (spawnSync(command, args).status !== 0) return t.skip("needs the right to make PID namespaces")
    const directory = await mkdtemp(join(root, `${"long-".repeat(30)}-`))
    const first = locker(directory, { wrapper: CONTAINER })
    assert.equal(await outcome(first), "held by 1")
    const second = locker(directory, { wrapper: CONTAINER })
    assert.match(await outcome(second), /process id 1 of another container/)
    await assert.rejects(lockDataDir(directory), heldBy(1))
    await Promise.all([killed(first), killed(second)])
    const third = locker(directory, { wrapper: CONTAINER })
    assert.equal(await outcome(third), "held by 1")
    await killed(third)
    await (await lockDataDir(directory)).release()
    assert.deepEqual(await readdir(directory), [])
  })

  it("tells by the heartbeat where there is neither a socket nor a process to see", async () => {
    const directory = await mkdtemp(join(root, "foreign-"))
    await foreignLock(directory, 60_000)
    await (await lockDataDir(directory)).release()

    const stopBeat = await startBeat(await foreignLock(directory, 1_000))
    await assert.rejects(lockDataDir(directory), heldBy(1))
    await stopBeat()

    const path = await foreignLock(directory, 14_000)
    const lock = await lockDataDir(directory)
    assert.doesNotMatch(await readFile(path, "utf8"), /foreign/)
    await lock.release()
    assert.deepEqual(await readdir(directory), [])
  })

  it("takes a volume that somebody else owns but everybody may write", async (t) => {
    if (process.getuid?.() !== 0) return t.skip("needs root, to act as another user")
    const directory = await mkdtemp(join(tmpdir(), "keelplane-volume-"))
    t.after(() => rm(directory, { recursive: true, force: true }))
    await chown(directory, 0, 65532)
    await chmod(directory, 0o2770)
    const child = locker(directory, { uid: 65532 })
    assert.equal(await outcome(child), `held by ${child.pid}`)
    await killed(child)
    assert.equal((await stat(directory)).mode & 0o7777, 0o2770)
    await chmod(directory, 0o2750)
    const refused = locker(directory, { uid: 65532 })
    assert.match(await outcome(refused), /^the data directory \S+ cannot be written by this user \(EACCES\)/)
    await killed(refused)
  })

  it("says in one line that a directory cannot be made", async () => {
    const file = join(root, "file")
    await writeFile(file, "")
    const impossible = process.platform === "linux" ? ["/proc/foo", "/proc/foo/bar"] : []
    for (const directory of [file, join(file, "below"), ...impossible]) {
      await assert.rejects(lockDataDir(directory), (error) => {
        assert.ok(error instanceof DomainError && error.reason === "FAILED_PRECONDITION", String(error))
        assert.ok(error.message.startsWith(`the data directory ${directory} cannot be made (`), error.message)
        return !error.message.includes("\n") && error.metadata.pid === undefined
      })
    }
  })
})
