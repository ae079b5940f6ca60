/**
 * Milvus out of pinned Python packages, into the cache: the server 2.3.5 itself, and Milvus Lite 3.2.2, which is another program in Python
 * with the newest calls. Nothing later than 2.3.5 that is the server was found in a package registry.
 */
import { execFile } from "node:child_process"
import { mkdirSync, renameSync } from "node:fs"
import { join } from "node:path"
import { promisify } from "node:util"
import { installed } from "../support/install.ts"
import { CACHE, type Tool } from "../support/tools.ts"
import { unpackWheel, type WheelPackage } from "../support/wheel.ts"

const run = promisify(execFile)

const SERVER: WheelPackage = {
  spec: "milvus==2.3.5",
  wheels: {
    x64: {
      platform: "manylinux2014_x86_64",
      sha256: "69515a0630ce29fd10e101fa442afea8ca1387b93a456cd9bd41fdf3deb93d04",
    },
  },
}
/** Milvus Lite and all that it needs, so that nothing changes under it. */
export const LITE_PACKAGES = [
  "milvus-lite==3.2.2",
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
  return installed(join(CACHE, "milvus-2.3.5"), "Milvus 2.3.5", async (folder) => {
    await unpackWheel(join(folder, "out"), SERVER)
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
  return installed(join(CACHE, "milvus-lite-3.2.2"), "Milvus Lite 3.2.2", async (folder) => {
    const made = join(folder, "made")
    const args = ["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--target", made]
    await run("python3", [...args, ...LITE_PACKAGES], { timeout: 600_000, maxBuffer: 1 << 26 })
    return made
  })
}
