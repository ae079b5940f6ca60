/**
 * pgvector for versions of PostgreSQL that no package has it for: its source as Debian has it, compiled against Debian's headers of that version
 * with the machine's own compiler, in a few seconds.
 */
import { execFile } from "node:child_process"
import { createHash } from "node:crypto"
import { cpSync, readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { promisify } from "node:util"
import { type Suite, unpackDebian } from "../support/debian.ts"

const run = promisify(execFile)

const VERSION = "0.8.0"
const SOURCE_SHA256 = "867a2c328d4928a5a9d6f052cd3bc78c7d60228a9b914ad32aa3db88e9de27b0"

/** Which of Debian's releases has the source. */
const SOURCE_SUITE: Suite = "trixie"
/** And which the headers. */
const HEADERS = { 15: "bookworm", 17: "trixie" } as const satisfies Readonly<Record<number, Suite>>

/** The versions that it can be built for. */
export type BuiltMajor = keyof typeof HEADERS

/** The name that a cache tells builds apart by. */
export const BUILT_VECTOR = `pgvector-${VERSION}`

/** Raises what this machine lacks for it, before anything is downloaded. */
export async function requireBuilder(): Promise<void> {
  for (const tool of ["gcc", "apt-get"]) await run(tool, ["--version"], { timeout: 60_000 })
}

/** Builds it in `folder`, which is scratch, and adds it to the server's files in `home`. */
export async function buildVector(folder: string, home: string, major: BuiltMajor): Promise<void> {
  const files = join(folder, "debian")
  const headers = { suite: HEADERS[major], packages: [`postgresql-server-dev-${major}`] }
  const source = ["pgvector", `${VERSION}-1`] as const
  if (headers.suite === SOURCE_SUITE) await unpackDebian(files, { ...headers, source })
  else {
    await unpackDebian(files, headers)
    await unpackDebian(files, { suite: SOURCE_SUITE, packages: [], source })
  }
  const archive = join(files, `pgvector_${VERSION}.orig.tar.gz`)
  const sum = createHash("sha256").update(readFileSync(archive)).digest("hex")
  if (sum !== SOURCE_SHA256) throw new Error(`the source's SHA-256 is ${sum}, not ${SOURCE_SHA256}`)
  await run("tar", ["-xzf", archive, "-C", folder], { timeout: 60_000 })
  const tree = join(folder, `pgvector-${VERSION}`)
  const units = readdirSync(join(tree, "src")).filter((name) => name.endsWith(".c"))
  const includes = ["src", join(files, "usr/include/postgresql", String(major), "server")]
  const library = join(home, "lib/postgresql/vector.so")
  await run(
    "gcc",
    [
      ...["-O2", "-fPIC", "-fno-strict-aliasing", "-fwrapv", "-shared"],
      ...includes.map((path) => `-I${path}`),
      ...units.map((name) => join("src", name)),
      ...["-o", library, "-lm"],
    ],
    { cwd: tree, timeout: 300_000, maxBuffer: 1 << 26 },
  )
  const extensions = join(home, "share/postgresql/extension")
  cpSync(join(tree, "vector.control"), join(extensions, "vector.control"))
  cpSync(join(tree, "sql/vector.sql"), join(extensions, `vector--${VERSION}.sql`))
}
