/** A small file system of its own, which a test can fill up. It takes root on Linux. */
import { execFileSync } from "node:child_process"
import { chmodSync, closeSync, mkdtempSync, openSync, rmSync, statfsSync, writeSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

const CHUNK = 1 << 20

/** A mounted file system in memory. */
export class SmallDisk {
  readonly folder: string

  private constructor(folder: string) {
    this.folder = folder
  }

  /** Mounts one, or answers why that cannot be. */
  static mount(megabytes: number): SmallDisk | string {
    const folder = mkdtempSync(join(tmpdir(), "keelplane-disk-"))
    try {
      execFileSync("mount", ["-t", "tmpfs", "-o", `size=${megabytes}m`, "tmpfs", folder], { stdio: "pipe" })
    } catch {
      rmSync(folder, { recursive: true, force: true })
      return "a file system of its own cannot be mounted here; it takes root on Linux"
    }
    chmodSync(folder, 0o755)
    const disk = new SmallDisk(folder)
    process.once("exit", () => disk.unmount())
    return disk
  }

  /** Leaves no byte free. */
  fill(): void {
    const file = openSync(this.#ballast, "w")
    try {
      for (let size = CHUNK; size >= 1; size >>= 1) writeUntilFull(file, Buffer.alloc(size))
    } finally {
      closeSync(file)
    }
  }

  /** Makes room again. */
  empty(): void {
    rmSync(this.#ballast, { force: true })
  }

  /** Bytes that are free. */
  free(): number {
    const { bavail, bsize } = statfsSync(this.folder)
    return bavail * bsize
  }

  /** Ends it; what is open in it ends with its last user. */
  unmount(): void {
    try {
      execFileSync("umount", ["-l", this.folder], { stdio: "pipe" })
      rmSync(this.folder, { recursive: true, force: true })
    } catch {
      // It is gone already.
    }
  }

  get #ballast(): string {
    return join(this.folder, "ballast")
  }
}

function writeUntilFull(file: number, bytes: Buffer): void {
  try {
    while (writeSync(file, bytes) === bytes.length);
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ENOSPC")) throw error
  }
}
