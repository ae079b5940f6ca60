/**
 * A ready cluster in one file: initdb, which takes seconds in WebAssembly, and the migrations ran once, where the program was
 * built. The file is a line of JSON that says what it was made for, then in gzip: a line of JSON that lists the directories
 * and files, then the files' bytes, each without the zeros at its end: a new log segment is 16 MB of them.
 */
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises"
import { join, relative } from "node:path"
import { promisify } from "node:util"
import { constants, gunzip, gzip } from "node:zlib"
import { migrationsDigest, readMigrations } from "./migrate.ts"

/** Where the build puts the template: beside the compiled form of this file. There is none beside the source. */
export const CLUSTER_TEMPLATE = new URL("./cluster-template.gz", import.meta.url)

/** Goes up when the file is laid out in another way. */
const FORMAT = 1
const NEWLINE = "\n".charCodeAt(0)
const FILES_AT_ONCE = 32

/** What a cluster must fit exactly: these programs wrote its files and will read them. */
interface Fit {
  readonly format: number
  readonly pglite: string
  readonly pgvector: string
  readonly migrations: string
}

interface Manifest {
  readonly directories: readonly string[]
  /** Path, bytes that follow, in this order, and zeros behind them. */
  readonly files: readonly (readonly [path: string, bytes: number, zeros: number])[]
}

/** A template in memory, known to be whole. */
export interface ClusterTemplate {
  readonly manifest: Manifest
  readonly contents: Buffer
}

/** Reads and checks a template; answers in words why it cannot serve here. Throws only what the disk throws. */
export async function readClusterTemplate(file: URL): Promise<ClusterTemplate | string> {
  const packed = await readIfThere(file)
  if (packed === undefined) return "this build has no cluster template"
  const end = packed.indexOf(NEWLINE)
  const found = end < 0 ? undefined : parse<Fit>(packed.subarray(0, end))
  if (found === undefined) return "the cluster template is damaged"
  const wanted = await currentFit()
  for (const key of ["format", "pglite", "pgvector", "migrations"] as const) {
    if (found[key] !== wanted[key])
      return `the cluster template has ${key} ${found[key]}, this program ${wanted[key]}`
  }
  try {
    return unpack(await promisify(gunzip)(packed.subarray(end + 1)))
  } catch {
    // Cut short or altered: gzip's own checksum says so.
    return "the cluster template is damaged"
  }
}

/** Writes the cluster into the empty `directory`. Nothing is on the disk yet when this resolves. */
export async function writeCluster(template: ClusterTemplate, directory: string): Promise<void> {
  const { manifest, contents } = template
  // Parents come before their children.
  for (const path of manifest.directories) await mkdir(join(directory, path), { mode: 0o700 })
  let at = 0
  const files = manifest.files.map(([path, bytes, zeros]) => {
    const from = at
    at += bytes
    const data = contents.subarray(from, at)
    return { path: join(directory, path), data: zeros === 0 ? data : [data, Buffer.alloc(zeros)] }
  })
  while (files.length > 0) {
    const some = files.splice(0, FILES_AT_ONCE)
    await Promise.all(some.map(({ path, data }) => writeFile(path, data, { mode: 0o600, flag: "wx" })))
  }
}

/** Packs the cluster in `directory`, which nobody has open, for {@link readClusterTemplate}. */
export async function packCluster(directory: string): Promise<Buffer> {
  const entries = await readdir(directory, { withFileTypes: true, recursive: true })
  const pathOf = (entry: (typeof entries)[number]) => relative(directory, join(entry.parentPath, entry.name))
  const directories = entries.filter((entry) => entry.isDirectory()).map(pathOf)
  const files: [path: string, bytes: number, zeros: number][] = []
  const contents: Buffer[] = []
  for (const path of entries
    .filter((entry) => entry.isFile())
    .map(pathOf)
    .sort()) {
    const bytes = await readFile(join(directory, path))
    const used = bytes.findLastIndex((byte) => byte !== 0) + 1
    files.push([path, used, bytes.length - used])
    contents.push(bytes.subarray(0, used))
  }
  const manifest: Manifest = { directories: directories.sort(), files }
  const body = Buffer.concat([Buffer.from(`${JSON.stringify(manifest)}\n`), ...contents])
  const packed = await promisify(gzip)(body, { level: constants.Z_BEST_COMPRESSION })
  return Buffer.concat([Buffer.from(`${JSON.stringify(await currentFit())}\n`), packed])
}

function unpack(body: Buffer): ClusterTemplate {
  const end = body.indexOf(NEWLINE)
  const manifest = parse<Manifest>(body.subarray(0, end))
  const contents = body.subarray(end + 1)
  const listed = manifest?.files.reduce((sum, [, bytes]) => sum + bytes, 0)
  if (manifest === undefined || listed !== contents.length) throw new Error("the list does not fit the files")
  return { manifest, contents }
}

async function currentFit(): Promise<Fit> {
  const [pglite, pgvector, migrations] = await Promise.all([
    versionOf("@electric-sql/pglite"),
    versionOf("@electric-sql/pglite-pgvector"),
    readMigrations(),
  ])
  return { format: FORMAT, pglite, pgvector, migrations: migrationsDigest(migrations) }
}

async function versionOf(name: string): Promise<string> {
  const description = new URL("../package.json", import.meta.resolve(name))
  const { version } = JSON.parse(await readFile(description, "utf8")) as { version: string }
  return version
}

function parse<T>(bytes: Buffer): T | undefined {
  try {
    return JSON.parse(bytes.toString("utf8")) as T
  } catch {
    return undefined
  }
}

async function readIfThere(file: URL): Promise<Buffer | undefined> {
  return readFile(file).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined
    throw error
  })
}
