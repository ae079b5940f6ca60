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

/** Which of Debian's releases has the headers. */
const HEADERS = { 15: "bookworm", 17: "trixie" } as const satisfies Readonly<Record<number, Suite>>

/** The versions that it can be built for. */
export type BuiltMajor = keyof typeof HEADERS

/** The name that a cache tells builds apart by. */
export const BUILT_VECTOR = `pgvector-${VERSION}`

/** Builds it in `folder`, which is scratch, and adds it to the server's files in `home`. */
export async function buildVector(folder: string, home: string, major: BuiltMajor): Promise<void> {
  const [headers, source] = [join(folder, "headers"), join(folder, "source")]
  await unpackDebian(headers, { suite: HEADERS[major], packages: [`postgresql-server-dev-${major}`] })
  await unpackDebian(source, { suite: "trixie", packages: [], source: ["pgvector", `${VERSION}-1`] })
  const archive = join(source, `pgvector_${VERSION}.orig.tar.gz`)
  const sum = createHash("sha256").update(readFileSync(archive)).digest("hex")
  if (sum !== SOURCE_SHA256) throw new Error(`the source's SHA-256 is ${sum}, not ${SOURCE_SHA256}`)
  await run("tar", ["-xzf", archive, "--strip-components=1", "-C", source], { timeout: 60_000 })
  const files = readdirSync(join(source, "src")).filter((name) => name.endsWith(".c"))
  const includes = ["src", join(headers, "usr/include/postgresql", String(major), "server")]
  const library = join(home, "lib/postgresql/vector.so")
  await run(
    "gcc",
    [
      ...["-O2", "-fPIC", "-fno-strict-aliasing", "-fwrapv", "-shared"],
      ...includes.map((path) => `-I${path}`),
      ...files.map((name) => join("src", name)),
      ...["-o", library, "-lm"],
    ],
    { cwd: source, timeout: 300_000, maxBuffer: 1 << 26 },
  )
  const extensions = join(home, "share/postgresql/extension")
  cpSync(join(source, "vector.control"), join(extensions, "vector.control"))
  cpSync(join(source, "sql/vector.sql"), join(extensions, `vector--${VERSION}.sql`))
}
