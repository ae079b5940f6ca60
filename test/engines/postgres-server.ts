/** PostgreSQL servers that a test file starts, stops and throws away. They end with their test process, however that ends. */
import { type ChildProcess, execFileSync } from "node:child_process"
import { chownSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import pg from "pg"
import { exited, isOver } from "../support/children.ts"
import { account } from "./postgres-install.ts"
import { freePort, spawnTied } from "./tied-process.ts"

const READY_MS = 60_000

/** How a server is started. */
export interface PostgresServerOptions {
  /** Settings beside those of every test server. */
  readonly settings?: Readonly<Record<string, string>>
  /** Whether commits wait for the disk. Default false. */
  readonly fsync?: boolean
  /** Files beside the data that only the server's user can read, by name; settings name them as `../name`. */
  readonly files?: Readonly<Record<string, string>>
  /** The lines of pg_hba.conf. Default: everyone is trusted. */
  readonly hba?: readonly string[]
}

/** A running, or stopped, server. Its superuser is `postgres`, without a password. */
export class PostgresServer {
  readonly port: number
  /** Holds `data`, the Unix socket and whatever a test puts beside them. */
  readonly folder: string
  readonly #home: string
  readonly #options: PostgresServerOptions
  #child: ChildProcess | undefined

  private constructor(home: string, folder: string, port: number, options: PostgresServerOptions) {
    this.#home = home
    this.folder = folder
    this.port = port
    this.#options = options
  }

  /** Makes a cluster and starts it. `home` has bin/postgres. */
  static async make(home: string, options: PostgresServerOptions = {}): Promise<PostgresServer> {
    const folder = mkdtempSync(join(tmpdir(), "keelplane-postgres-"))
    if (account !== undefined) chownSync(folder, account.uid, account.gid)
    const server = new PostgresServer(home, folder, await freePort(), options)
    server.#copyCluster()
    server.#place(options)
    await server.start()
    return server
  }

  get url(): string {
    return `postgres://postgres@127.0.0.1:${this.port}/postgres`
  }

  /** The address by its Unix socket, where tests change who may come in over TCP. */
  get socketUrl(): string {
    return `postgres://postgres@/postgres?host=${encodeURIComponent(this.folder)}&port=${this.port}`
  }

  /** The server's first process. */
  get pid(): number {
    return Number(readFileSync(join(this.folder, "data", "postmaster.pid"), "utf8").split("\n")[0])
  }

  /** The server's other processes: one for each connection, and its own helpers. */
  backends(): readonly number[] {
    const children = readFileSync(`/proc/${this.pid}/task/${this.pid}/children`, "utf8")
    return children.trim().split(" ").map(Number)
  }

  #place({ files = {}, hba = [] }: PostgresServerOptions): void {
    const all = Object.entries(files).map(([name, text]) => [join(this.folder, name), text] as const)
    if (hba.length > 0) all.push([join(this.folder, "data", "pg_hba.conf"), `${hba.join("\n")}\n`])
    for (const [path, text] of all) {
      writeFileSync(path, text, { mode: 0o600 })
      if (account !== undefined) chownSync(path, account.uid, account.gid)
    }
  }

  /** Resolves when it answers. */
  async start(): Promise<void> {
    const settings: Record<string, string> = {
      listen_addresses: "127.0.0.1",
      port: String(this.port),
      unix_socket_directories: this.folder,
      shared_buffers: "64MB",
      max_connections: "60",
      ...(this.#options.fsync === true
        ? {}
        : { fsync: "off", synchronous_commit: "off", full_page_writes: "off" }),
      ...this.#options.settings,
    }
    const args = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`])
    const binary = join(this.#home, "bin", "postgres")
    const child = spawnTied(this.folder, binary, ["-D", join(this.folder, "data"), ...args])
    this.#child = child
    await this.#answering(child)
  }

  /** `fast` ends its connections in order, `immediate` is a crash. Resolves when it is gone. */
  async stop(mode: "fast" | "immediate" = "fast"): Promise<void> {
    const child = this.#child
    if (child === undefined) return
    this.#child = undefined
    if (isOver(child)) return
    const ended = exited(child)
    process.kill(this.pid, mode === "fast" ? "SIGINT" : "SIGQUIT")
    await ended
  }

  /** Stops it for good and removes its files. */
  async remove(): Promise<void> {
    await this.stop("immediate")
    rmSync(this.folder, { recursive: true, force: true })
  }

  #copyCluster(): void {
    const data = join(this.folder, "data")
    execFileSync("cp", ["-R", "-p", join(this.#home, "cluster"), data], { ...account, timeout: READY_MS })
  }

  async #answering(child: ChildProcess): Promise<void> {
    for (const until = Date.now() + READY_MS; Date.now() < until && !isOver(child); ) {
      const client = new pg.Client({ connectionString: this.socketUrl })
      client.on("error", () => undefined)
      try {
        await client.connect()
        return
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 20))
      } finally {
        await client.end()
      }
    }
    const log = readFileSync(join(this.folder, "server.log"), "utf8").slice(-2_000)
    throw new Error(`PostgreSQL does not answer at ${this.url}: ${log}`)
  }
}
