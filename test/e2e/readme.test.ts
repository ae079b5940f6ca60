/** The README's own commands, run against the built daemon exactly as they stand, but for the ports. */
import assert from "node:assert/strict"
import { spawnSync } from "node:child_process"
import { existsSync, readFileSync } from "node:fs"
import { delimiter, dirname, join } from "node:path"
import test, { after, before } from "node:test"
import { fileURLToPath } from "node:url"
import { type Daemon, startDaemon } from "../support/daemon.ts"
import { goTool, pathOf, skipReason } from "../support/tools.ts"

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))))
const readme = readFileSync(join(root, "README.md"), "utf8")
const grpcurl = await goTool("grpcurl")
const skip = skipReason(grpcurl)

let daemon: Daemon

before(async () => {
  daemon = await startDaemon()
})

after(async () => {
  await daemon?.stop()
})

/** Lines of the README's shell blocks. */
function commands(): string[] {
  return [...readme.matchAll(/^```sh\n([\s\S]*?)^```$/gm)].flatMap((block) =>
    (block[1] ?? "").trim().split("\n"),
  )
}

test("every grpcurl and curl line succeeds, in order", { skip }, async (t) => {
  const lines = commands().filter((line) => /^(grpcurl|curl) /.test(line))
  assert.ok(lines.length > 10)
  const path = `${dirname(pathOf(grpcurl))}${delimiter}${process.env.PATH}`
  for (const line of lines) {
    await t.test(line.slice(0, 90), () => {
      const command = line
        .replaceAll("127.0.0.1:50051", daemon.address)
        .replaceAll("127.0.0.1:50052", daemon.opsAddress)
        .replace(/^curl -s/, "curl -sS --fail-with-body")
      const result = spawnSync("sh", ["-c", command], {
        encoding: "utf8",
        env: { ...process.env, PATH: path },
      })
      assert.equal(result.status, 0, `${line}\n${result.stdout}\n${result.stderr}`)
    })
  }
})

test("what the tour says of searches and states is what they answer", { skip }, async () => {
  const post = async (rpc: string, body: object) => {
    const response = await fetch(`http://${daemon.address}/keelplane.v1.${rpc}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    })
    return (await response.json()) as Record<string, never>
  }
  const found = (await post("MemoryService/Search", {
    collectionId: "notes",
    query: { text: "do fencing tokens rise?", k: 1, mode: "SEARCH_MODE_HYBRID" },
  })) as unknown as { result: { hits: { record: { id: string } }[] } }
  assert.equal(found.result.hits[0]?.record.id, "a")
  const state = (await post("EventService/GetStreamState", {
    stream: "task-1",
    atRevision: "1",
  })) as unknown as {
    state: object
  }
  assert.deepEqual(state.state, { status: "open" })
})

test("every link to a file of the repository leads somewhere", () => {
  for (const [, target] of readme.matchAll(/\]\((?!https?:)([^)#]+)\)/g)) {
    assert.ok(target && existsSync(join(root, target)), `${target} does not exist`)
  }
})
