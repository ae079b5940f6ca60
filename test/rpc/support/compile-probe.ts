/** `node test/rpc/support/compile-probe.ts` compiles probe.proto after a change; the result is committed beside it. */
import { execFileSync } from "node:child_process"
import { cpSync, mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

const root = join(import.meta.dirname, "../../..")
const folder = mkdtempSync(join(tmpdir(), "probe-"))
cpSync(join(root, "proto/third_party/buf"), join(folder, "buf"), { recursive: true })
cpSync(join(root, "proto/keelplane/v1/options.proto"), join(folder, "keelplane/v1/options.proto"))
cpSync(join(import.meta.dirname, "probe.proto"), join(folder, "probe.proto"))
const output = join(import.meta.dirname, "probe.binpb")
execFileSync("buf", ["build", folder, "--exclude-source-info", "-o", output], { stdio: "inherit" })
rmSync(folder, { recursive: true })
