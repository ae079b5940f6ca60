/** Archives as files: lines of bytes in and out, packed by gzip where the name or the content says so. */
import { once } from "node:events"
import { createReadStream, createWriteStream } from "node:fs"
import { mkdtemp, open, rename, rm, stat } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { Readable, Writable } from "node:stream"
import { finished, pipeline } from "node:stream/promises"
import { createGunzip, createGzip } from "node:zlib"
import type { Lines } from "../../domain/archive/format.ts"

const LINE_END = 0x0a
/** Only its owner may read it: it has hashes of keys and everything that agents know. */
const MODE = 0o600

/** Where an archive is written. */
export interface ArchiveOutput {
  /** Resolves when there is room for more. */
  put(text: string): Promise<void>
  /** Everything was written: a file gets its name only now, so that half an archive never has it. */
  done(): Promise<void>
  /** It was not: nothing stays. */
  drop(): Promise<void>
}

/** Opens `path` for writing, or standard output. */
export async function openOutput(path: string | undefined): Promise<ArchiveOutput> {
  if (path === undefined) return streamOutput(process.stdout)
  const packer = path.endsWith(".gz") ? createGzip() : undefined
  // A pipe or a device is no name to be given away.
  const plain = (await stat(path).catch(ifThere))?.isFile() ?? true
  const draft = plain ? `${path}.partial` : path
  const file = createWriteStream(draft, { mode: MODE, flush: plain })
  const ended = packer === undefined ? finished(file) : pipeline(packer, file)
  return streamOutput(packer ?? file, ended, {
    done: () => (plain ? rename(draft, path) : Promise.resolve()),
    drop: () => (plain ? rm(draft, { force: true }) : Promise.resolve()),
  })
}

/** `ended` settles when the stream is finished; without it the stream is not ours to end. */
function streamOutput(
  stream: Writable,
  ended?: Promise<void>,
  after?: { done(): Promise<void>; drop(): Promise<void> },
): ArchiveOutput {
  const failed = new Promise<never>((_, reject) => {
    stream.once("error", reject)
    ended?.catch(reject)
  })
  // Told by the next write.
  failed.catch(() => {})
  const put = writer(stream)
  return {
    put: (text) => Promise.race([put(text), failed]),
    done: async () => {
      if (ended === undefined) return
      stream.end()
      await ended
      await after?.done()
    },
    drop: async () => {
      if (ended === undefined) return
      stream.destroy()
      await ended.catch(() => {})
      await after?.drop()
    },
  }
}

function ifThere(error: NodeJS.ErrnoException): undefined {
  if (error.code !== "ENOENT") throw error
}

function writer(stream: Writable): (text: string) => Promise<void> {
  return async (text) => {
    if (!stream.write(text)) await once(stream, "drain")
  }
}

/** An archive that can be read from its beginning as often as wanted. */
export interface ArchiveInput {
  lines(): Lines
  close(): Promise<void>
}

/** Opens `path`; standard input is kept in a file until {@link ArchiveInput.close}. */
export async function openInput(path: string | undefined): Promise<ArchiveInput> {
  if (path !== undefined) return { lines: () => linesOf(path), close: async () => {} }
  const folder = await mkdtemp(join(tmpdir(), "keelplane-import-"))
  const copy = join(folder, "archive")
  try {
    await pipeline(process.stdin, createWriteStream(copy, { mode: MODE }))
  } catch (error) {
    await rm(folder, { recursive: true, force: true })
    throw error
  }
  return { lines: () => linesOf(copy), close: () => rm(folder, { recursive: true, force: true }) }
}

async function* linesOf(path: string): AsyncGenerator<Buffer> {
  const packed = await isPacked(path)
  const file = createReadStream(path, { highWaterMark: 262_144 })
  const unpacked: Readable = packed ? createGunzip() : file
  const fed = unpacked === file ? undefined : pipeline(file, unpacked as Writable & Readable)
  fed?.catch(() => {})
  let rest: Buffer[] = []
  try {
    for await (const chunk of unpacked as AsyncIterable<Buffer>) {
      let from = 0
      for (let end = chunk.indexOf(LINE_END); end !== -1; end = chunk.indexOf(LINE_END, from)) {
        rest.push(chunk.subarray(from, end))
        yield rest.length === 1 ? (rest[0] ?? chunk) : Buffer.concat(rest)
        rest = []
        from = end + 1
      }
      if (from < chunk.length) rest.push(chunk.subarray(from))
    }
  } catch (error) {
    // What gzip says of a file that ends too early.
    if ((error as NodeJS.ErrnoException).code !== "Z_BUF_ERROR") throw error
  } finally {
    file.destroy()
  }
  if (rest.length > 0) yield Buffer.concat(rest)
}

const GZIP = Buffer.from([0x1f, 0x8b])

async function isPacked(path: string): Promise<boolean> {
  const file = await open(path)
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(GZIP.length), 0, GZIP.length, 0)
    return bytesRead === GZIP.length && buffer.equals(GZIP)
  } finally {
    await file.close()
  }
}
