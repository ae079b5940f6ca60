/** Runs `keelplane config check` of the built daemon on a configuration text; rejects with its output when it is refused. */
import { execFile } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"

const run = promisify(execFile)
const main = fileURLToPath(new URL("../../dist/main.js", import.meta.url))

/** Resolves when the daemon accepts `text` as its keelplane.yaml. Paths in it are replaced by existing ones. */
export async function loadConfigText(text: string): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "keelplane-config-"))
  try {
    const tokens = join(folder, "tokens")
    writeFileSync(tokens, "a-token-for-tests-only-0123456789abcdef\n", { mode: 0o600 })
    const file = join(folder, "keelplane.yaml")
    writeFileSync(
      file,
      text.replace("/etc/keelplane/tokens/tokens", tokens).replace("/var/lib/keelplane", folder),
    )
    await run(process.execPath, [main, "config", "check", "--config", file], {
      env: { PATH: process.env.PATH },
    })
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
