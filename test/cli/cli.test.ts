import assert from "node:assert/strict"
import { execFile, spawnSync } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { after, test } from "node:test"
import { fileURLToPath } from "node:url"
import { startCli } from "./start-cli.ts"

const main = fileURLToPath(new URL("../../dist/main.js", import.meta.url))
const folder = mkdtempSync(join(tmpdir(), "keelplane-cli-"))
const dataDir = join(folder, "data")
after(() => rmSync(folder, { recursive: true, force: true }))

interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

function run(
  args: readonly string[],
  options: { env?: Record<string, string>; node?: readonly string[] } = {},
) {
  return new Promise<Ended>((resolve) => {
    const child = execFile(
      process.execPath,
      [...(options.node ?? []), main, ...args],
      { cwd: folder, env: { PATH: process.env.PATH, ...options.env } },
      (_error, stdout, stderr) => resolve({ code: child.exitCode, stdout, stderr }),
    )
  })
}

test("--help, version and wrong command lines", async () => {
  const help = await run(["--help"])
  assert.equal(help.code, 0)
  assert.match(help.stdout, /serve[\s\S]*migrate[\s\S]*Exit codes/)
  const version = await run(["version"])
  assert.match(version.stdout, /^\d+\.\d+\.\d+\n$/)
  const cases: readonly [string[], RegExp][] = [
    [[], /a command is missing/],
    [["sreve"], /did you mean serve/],
    [["serve", "--frob"], /--frob/],
    [["config"], /check or show/],
    [["serve", "--dry-run"], /belongs to migrate/],
    [["serve", "extra"], /too many/],
  ]
  for (const [args, message] of cases) {
    const { code, stdout, stderr } = await run(args)
    assert.equal(code, 2, args.join(" "))
    assert.equal(stdout, "")
    assert.match(stderr, message)
    assert.equal(stderr.trim().split("\n").length, 1)
  }
})

test("an older runtime is refused with one line", async () => {
  const old = "Object.defineProperty(process,'versions',{value:{...process.versions,node:'22.10.9'}})"
  const { code, stderr } = await run(["version"], { node: ["--import", `data:text/javascript,${old}`] })
  assert.equal(code, 69)
  assert.equal(stderr, "keelplane needs Node 22.11 or newer; this is Node 22.10.9\n")
})

test("config check says everything that is wrong, config show hides secrets", async () => {
  const file = join(folder, "wrong.yaml")
  writeFileSync(file, "limits: {depth: x}\nlisten: {data: '0.0.0.0:1'}\n")
  const wrong = await run(["config", "check", "--config", file])
  assert.equal(wrong.code, 78)
  assert.match(wrong.stderr, /limits\.depth[\s\S]*listen\.data/)
  assert.equal((await run(["config", "check"])).stdout, "the configuration is accepted\n")
  const url = "postgres://u:hunter2@h/d"
  const env = { KEELPLANE_STORES__EVENTS__URL: url, KEELPLANE_STORES__CONTROL__URL: url }
  const shown = await run(["config", "show", "--set", "limits.depth=32"], { env })
  assert.match(shown.stdout, /limits\.depth: --set/)
  assert.match(shown.stdout, /depth: 32/)
  assert.match(shown.stdout, /u:\*\*\*@h/)
  assert.doesNotMatch(shown.stdout, /hunter2/)
})

test("serve: the printed lines work when pasted, one daemon per directory, SIGTERM drains", async () => {
  const daemon = await startCli(main, [
    "--data-dir",
    dataDir,
    "--listen",
    "127.0.0.1:0",
    "--ops-listen",
    "127.0.0.1:0",
  ])
  try {
    const pasted = daemon.stdout().match(/^ {2}curl .*$/gm) ?? []
    assert.equal(pasted.length, 2)
    if (spawnSync("curl", ["--version"]).status === 0) {
      const [set, get] = pasted.map((line) => spawnSync("sh", ["-c", line], { encoding: "utf8" }).stdout)
      assert.match(set ?? "", /"applied":\s*true/)
      assert.match(get ?? "", /"text":\s*"hello"/)
    }
    assert.match(daemon.stdout(), new RegExp(`data {3}${dataDir}`))
    assert.match(daemon.stdout(), /`default` and need no key/)
    const second = await run([
      "serve",
      "--data-dir",
      dataDir,
      "--listen",
      "127.0.0.1:0",
      "--ops-listen",
      "none",
    ])
    assert.equal(second.code, 75)
    assert.match(second.stderr, new RegExp(`process id ${daemon.pid}`))
    assert.equal(second.stderr.trim().split("\n").length, 1)
  } finally {
    daemon.kill("SIGTERM")
  }
  assert.deepEqual(await daemon.ended, { code: 0, signal: null })
  const dry = await run(["migrate", "--dry-run", "--data-dir", dataDir])
  assert.match(dry.stdout, /up to date/)
})

test("a second signal ends the daemon at once, with another exit code", async () => {
  const daemon = await startCli(main, [
    "--data-dir",
    dataDir,
    "--listen",
    "127.0.0.1:0",
    "--ops-listen",
    "none",
  ])
  daemon.kill("SIGTERM")
  daemon.kill("SIGINT")
  assert.deepEqual(await daemon.ended, { code: 130, signal: null })
})

test("a port in use is one clear line", async () => {
  const daemon = await startCli(main, [
    "--data-dir",
    dataDir,
    "--listen",
    "127.0.0.1:0",
    "--ops-listen",
    "none",
  ])
  try {
    const address = /API {4}(\S+)/.exec(daemon.stdout())?.[1] ?? ""
    const dir = join(folder, "second")
    const second = await run(["serve", "--data-dir", dir, "--listen", address, "--ops-listen", "none"])
    assert.equal(second.code, 75)
    assert.match(second.stderr, /EADDRINUSE|in use/)
  } finally {
    daemon.kill("SIGTERM")
  }
  assert.equal((await daemon.ended).code, 0)
})
