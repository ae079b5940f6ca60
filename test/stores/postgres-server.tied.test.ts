/** A test run leaves no server behind, even when it is killed. */
import assert from "node:assert/strict"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { existsSync, readFileSync } from "node:fs"
import { it } from "node:test"
import { ownServerSkip } from "../engines/postgres.ts"
import { until } from "../support/until.ts"

const SCRIPT = `
import { PostgresServer } from ${JSON.stringify(new URL("../engines/postgres-server.ts", import.meta.url).href)}
import { postgresTool } from ${JSON.stringify(new URL("../engines/postgres-install.ts", import.meta.url).href)}
const server = await PostgresServer.make((await postgresTool(18)).path)
process.stdout.write(JSON.stringify({ pid: server.pid, folder: server.folder }))
setInterval(() => {}, 1000)
`

function isRunning(pid: number): boolean {
  return existsSync(`/proc/${pid}`) && !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"))
}

it("a server and its files end with the killed process that started it", {
  skip: ownServerSkip,
  timeout: 60_000,
}, async () => {
  const child = spawn(process.execPath, ["--input-type=module", "-e", SCRIPT], {
    stdio: ["ignore", "pipe", "inherit"],
  })
  const [text] = await once(child.stdout, "data")
  const { pid, folder } = JSON.parse(String(text)) as { pid: number; folder: string }
  assert.ok(isRunning(pid) && existsSync(folder))
  child.kill("SIGKILL")
  await until("the server is gone", () => !isRunning(pid))
  await until("its files are gone", () => !existsSync(folder))
})
