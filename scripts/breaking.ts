/**
 * Refuses an API that would break callers of its last release, proto/released.binpb. Both sides are compared as images, for the
 * workspace has a second module (vendored protos) that the release does not.
 */
import { execFileSync } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const folder = mkdtempSync(join(tmpdir(), "keelplane-api-"))
const image = join(folder, "api.binpb")
const config = { version: "v2", breaking: { use: ["FILE"], ignore: ["buf", "google", "grpc"] } }

function buf(...args: readonly string[]): void {
  execFileSync("buf", args, { cwd: root, stdio: "inherit" })
}

try {
  buf("build", "proto", "--exclude-source-info", "-o", image)
  buf("breaking", image, "--against", "proto/released.binpb", "--config", JSON.stringify(config))
} catch (error) {
  console.error("the API would break callers of its last release")
  process.exitCode = (error as { status?: number }).status ?? 1
} finally {
  rmSync(folder, { recursive: true, force: true })
}
