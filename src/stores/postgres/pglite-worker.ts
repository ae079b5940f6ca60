/**
 * The thread that owns a PGlite: bytes of the PostgreSQL protocol in, bytes out, one message per round trip. Everything else
 * (protocol, pool, transactions) lives in the main thread, which sees nothing but a connection.
 */
import { fsyncSync } from "node:fs"
import { parentPort, workerData } from "node:worker_threads"
import { PGlite } from "@electric-sql/pglite"
import { NodeFS } from "@electric-sql/pglite/nodefs"
import { vector } from "@electric-sql/pglite-pgvector"
import type { FromWorker, PgliteWorkerOptions, ToWorker } from "./pglite-protocol.ts"

const MAX_CHUNK_BYTES = 1024 * 1024

/** The directory's file system, with an fsync that reaches the disk: PGlite's own answers it without doing anything. */
class DurableNodeFS extends NodeFS {
  override async init(...args: Parameters<NodeFS["init"]>): ReturnType<NodeFS["init"]> {
    const { emscriptenOpts } = await super.init(...args)
    const mount = emscriptenOpts.preRun ?? []
    return { emscriptenOpts: { ...emscriptenOpts, preRun: [addFsync, ...[mount].flat()] } }
  }
}

interface NodeStream {
  readonly nfd?: number
}

function addFsync(module: unknown): void {
  const { FS } = module as {
    FS: { filesystems: { NODEFS: { stream_ops: { fsync?: (stream: NodeStream) => number } } } }
  }
  FS.filesystems.NODEFS.stream_ops.fsync = (stream) => {
    if (stream.nfd !== undefined) fsyncSync(stream.nfd)
    return 0
  }
}

function post(message: FromWorker, transfer: readonly ArrayBuffer[] = []): void {
  parentPort?.postMessage(message, [...transfer])
}

async function open(options: PgliteWorkerOptions): Promise<PGlite> {
  const settings = Object.entries(options.settings).flatMap(([name, value]) => ["-c", `${name}=${value}`])
  const defaults = PGlite.defaultStartParams.filter((param) => param !== "-F" || !options.fsync)
  return PGlite.create({
    ...(options.directory === undefined ? {} : { fs: new DurableNodeFS(options.directory) }),
    ...(options.template === undefined ? {} : { loadDataDir: new Blob([options.template]) }),
    extensions: { vector },
    relaxedDurability: false,
    startParams: [...defaults, ...settings],
    onStdout: () => false,
    onStderr: () => false,
  })
}

async function answer(db: PGlite, request: Uint8Array): Promise<void> {
  let chunks: Uint8Array[] = []
  let bytes = 0
  const flush = () => {
    const all = new Uint8Array(bytes)
    let at = 0
    for (const chunk of chunks) {
      all.set(chunk, at)
      at += chunk.length
    }
    chunks = []
    bytes = 0
    post(all, [all.buffer])
  }
  await db.execProtocolRawStream(request, {
    // The bytes lie in WebAssembly memory that the next write overwrites.
    onRawData: (data) => {
      chunks.push(data.slice())
      bytes += data.length
      if (bytes >= MAX_CHUNK_BYTES) flush()
    },
  })
  if (bytes > 0) flush()
}

async function handle(db: PGlite, message: ToWorker): Promise<void> {
  if (message instanceof Uint8Array) return answer(db, message)
  if (message === "dump") {
    const dump = await db.dumpDataDir("none")
    const tar = new Uint8Array(await dump.arrayBuffer())
    return post({ dump: tar }, [tar.buffer])
  }
  await db.close()
  parentPort?.close()
}

const db = await open(workerData as PgliteWorkerOptions)
let queue: Promise<void> = Promise.resolve()
parentPort?.on("message", (message: ToWorker) => {
  queue = queue.then(() => handle(db, message))
})
post("ready")
