import assert from "node:assert/strict"
import { spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import { closeSync, constants, mkdtempSync, openSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { test } from "node:test"
import { setTimeout } from "node:timers/promises"
import { fileURLToPath } from "node:url"

const main = fileURLToPath(new URL("../../dist/main.js", import.meta.url))

/** Opens the pipe as soon as somebody reads it. */
async function openPipe(path: string): Promise<number> {
  for (;;) {
    try {
      return openSync(path, constants.O_WRONLY | constants.O_NONBLOCK)
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "ENXIO")) throw error
    }
    await setTimeout(20)
  }
}

test("a signal ends a start that hangs in the file system", { timeout: 60_000 }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "keelplane-hung-"))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  const pipe = join(folder, "password")
  if (spawnSync("mkfifo", [pipe]).status !== 0) return t.skip("needs mkfifo")
  const stores = ["MEMORY", "EVENTS", "CONTROL"].map((name) => `KEELPLANE_STORES__${name}__`)
  const env = Object.fromEntries(
    stores.flatMap((name) => [
      [`${name}URL`, "postgres://keelplane@127.0.0.1:1/keelplane"],
      [`${name}PASSWORD_FILE`, pipe],
    ]),
  )
  const args = [main, "serve", "--data-dir", join(folder, "data"), "--listen", "127.0.0.1:0"]
  const child = spawn(process.execPath, [...args, "--ops-listen", "none"], {
    env: { PATH: process.env.PATH, ...env },
    stdio: ["ignore", "ignore", "pipe"],
  })
  t.after(() => child.kill("SIGKILL"))
  let said = ""
  child.stderr.on("data", (text) => {
    said += text
  })
  const writer = await Promise.race([
    openPipe(pipe),
    once(child, "close").then(([code]) => assert.fail(`it ended with ${code}: ${said}`)),
  ])
  const ended = once(child, "close")
  child.kill("SIGTERM")
  assert.deepEqual(await ended, [null, "SIGTERM"])
  assert.equal(said, "keelplane: ended by SIGTERM before the start was complete\n")
  closeSync(writer)
})
