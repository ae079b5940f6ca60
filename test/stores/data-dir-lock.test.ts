import assert from "node:assert/strict"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { after, before, describe, it } from "node:test"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import { lockDataDir } from "../../src/stores/postgres/data-dir-lock.ts"

const LOCK = "daemon.lock"

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
})
