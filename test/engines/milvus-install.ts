/**
 * Milvus out of pinned Python packages, into the cache: the server 2.3.5 itself, and Milvus Lite 3.2.2, which is another program in Python
 * with the newest calls. Nothing later than 2.3.5 that is the server was found in a package registry.
 */
import { execFile } from "node:child_process"
import { createHash, randomUUID } from "node:crypto"
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { promisify } from "node:util"
import { CACHE, type Tool } from "../support/tools.ts"

const run = promisify(execFile)

const SERVER = "milvus==2.3.5"
const SERVER_SHA256 = "69515a0630ce29fd10e101fa442afea8ca1387b93a456cd9bd41fdf3deb93d04"
const LITE = "milvus-lite==3.2.2"
/** Milvus Lite and all that it needs, so that nothing changes under it. */
export const LITE_PACKAGES = [
  LITE,
  "pymilvus==3.0.2",
  "cachetools==8.0.2",
  "certifi==2026.10.19.post1",
  "charset-normalizer==3.5.3",
  "faiss-cpu==1.15.1",
  "grpcio==1.85.3",
  "idna==3.20",
  "numpy==2.4.6",
  "orjson==3.13.0",
  "packaging==26.4",
  "pandas==3.1.1",
  "protobuf==7.36.2",
  "pyarrow==26.0.1",
  "python-dateutil==4.0.0",
  "python-dotenv==1.2.4",
  "requests==2.34.2",
  "typing_extensions==4.16.0",
  "tzdata==2026.6",
  "urllib3==2.8.0",
]

const UNPACK = `
import lzma, os, sys
source, target = sys.argv[1], sys.argv[2]
for name in os.listdir(source):
    if name.endswith(".lzma"):
        path = os.path.join(target, name[:-5])
        with lzma.open(os.path.join(source, name)) as packed, open(path, "wb") as out:
            out.write(packed.read())
        os.chmod(path, 0o755)
`

/** The folder with `bin/milvus` and `config.yaml.template`. */
export async function milvusServerTool(): Promise<Tool> {
  if (process.platform !== "linux" || process.arch !== "x64") {
    return { missing: "the packaged Milvus 2.3.5 is for Linux on x64" }
  }
  return installed("milvus-2.3.5", "Milvus 2.3.5", async (folder) => {
    const args = [
      "-m",
      "pip",
      "download",
      "--quiet",
      "--no-deps",
      "--only-binary",
      ":all:",
      "--dest",
      folder,
      SERVER,
    ]
    await run("python3", args, { timeout: 300_000 })
    const [wheel = ""] = readdirSync(folder)
    const sum = createHash("sha256")
      .update(readFileSync(join(folder, wheel)))
      .digest("hex")
    if (sum !== SERVER_SHA256) throw new Error(`the package's SHA-256 is ${sum}, not ${SERVER_SHA256}`)
    await run("python3", ["-m", "zipfile", "-e", join(folder, wheel), join(folder, "out")], {
      timeout: 60_000,
    })
    const data = join(folder, "out", "milvus", "data")
    const made = join(folder, "made")
    mkdirSync(join(made, "bin"), { recursive: true })
    await run("python3", ["-c", UNPACK, join(data, "bin"), join(made, "bin")], { timeout: 120_000 })
    for (const name of ["config.yaml.template", "glog.conf"]) renameSync(join(data, name), join(made, name))
    return made
  })
}

/** The folder to put into PYTHONPATH. */
export function milvusLiteTool(): Promise<Tool> {
  return installed("milvus-lite-3.2.2", "Milvus Lite 3.2.2", async (folder) => {
    const made = join(folder, "made")
    const args = ["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--target", made]
    await run("python3", [...args, ...LITE_PACKAGES], { timeout: 600_000, maxBuffer: 1 << 26 })
    return made
  })
}

async function installed(
  name: string,
  title: string,
  make: (folder: string) => Promise<string>,
): Promise<Tool> {
  const path = join(CACHE, name)
  if (existsSync(path)) return { path }
  const folder = mkdtempSync(join(tmpdir(), "keelplane-install-"))
  try {
    const made = await make(folder)
    mkdirSync(dirname(path), { recursive: true })
    // Through a name of its own and a rename, as other test files may do the same right now.
    const own = `${path}.${randomUUID()}`
    await run("cp", ["-r", made, own])
    try {
      renameSync(own, path)
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
