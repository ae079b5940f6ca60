/**
 * Files out of Debian's packages for tests, of a named suite whatever this machine runs: had with apt, which checks Debian's signatures,
 * from lists of their own, and unpacked into a folder. Nothing is installed, no service starts, and nobody has to be root.
 */
import { execFile } from "node:child_process"
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"

const run = promisify(execFile)

const MIRROR = "http://deb.debian.org"
const KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
const DOWNLOAD_MS = 300_000

/** A release of Debian. */
export type Suite = "bookworm" | "trixie"

/** What is wanted of one suite. */
export interface DebianWish {
  readonly suite: Suite
  /** Binary packages of this machine's architecture; without what they depend on. */
  readonly packages: readonly string[]
  /** A source package and its version. Its files are left as they are published. */
  readonly source?: readonly [name: string, version: string]
}

/** Puts packages' files under `folder` as on a system, and a source's files beside them. */
export async function unpackDebian(folder: string, { suite, packages, source }: DebianWish): Promise<void> {
  const own = mkdtempSync(join(tmpdir(), "keelplane-apt-"))
  try {
    const apt = await lists(own, suite, source !== undefined)
    const downloads = join(own, "downloads")
    mkdirSync(downloads)
    const options = { cwd: downloads, timeout: DOWNLOAD_MS }
    if (packages.length > 0) await run("apt-get", [...apt, "download", ...packages], options)
    mkdirSync(folder, { recursive: true })
    for (const name of readdirSync(downloads))
      await run("dpkg-deb", ["-x", join(downloads, name), folder], { timeout: 60_000 })
    if (source !== undefined) {
      const args = [...apt, "--download-only", "source", source.join("=")]
      await run("apt-get", args, { cwd: folder, timeout: DOWNLOAD_MS })
    }
  } finally {
    rmSync(own, { recursive: true, force: true })
  }
}

/** Has what a suite has listed; answers apt's options for working with that and nothing else. */
async function lists(own: string, suite: Suite, sources: boolean): Promise<readonly string[]> {
  const list = join(own, "sources.list")
  const kinds = sources ? ["deb", "deb-src"] : ["deb"]
  const lines = kinds.flatMap((kind) => [
    `${kind} [signed-by=${KEYS}] ${MIRROR}/debian ${suite} main`,
    `${kind} [signed-by=${KEYS}] ${MIRROR}/debian-security ${suite}-security main`,
  ])
  writeFileSync(list, `${lines.join("\n")}\n`)
  for (const name of ["lists/partial", "cache/archives/partial"])
    mkdirSync(join(own, name), { recursive: true })
  const apt = [
    "-qq",
    `Dir::Etc::sourcelist=${list}`,
    "Dir::Etc::sourceparts=-",
    `Dir::State::lists=${join(own, "lists")}`,
    `Dir::Cache=${join(own, "cache")}`,
    "Acquire::Languages=none",
    "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
    "APT::Update::Error-Mode=any",
    "Acquire::Retries=3",
    // The folder is not open to apt's own user.
    "APT::Sandbox::User=root",
  ].flatMap((option) => (option.startsWith("-") ? [option] : ["-o", option]))
  await run("apt-get", [...apt, "update"], { timeout: DOWNLOAD_MS })
  return apt
}
