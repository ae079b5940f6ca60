/**
 * Makes the cluster template in the file named by the only argument, unless the one there still fits. It appears in one step
 * or not at all. A process of its own, so that neither its memory nor its failure is the build's.
 */
import { renameSync, rmSync, writeFileSync } from "node:fs"
import { pathToFileURL } from "node:url"
import { makeClusterTemplate } from "../src/stores/postgres/cluster-maker.ts"
import { readClusterTemplate } from "../src/stores/postgres/cluster-template.ts"

/** What a shell reports for a command that was interrupted. */
const INTERRUPTED = 130

const file = process.argv[2]
if (file === undefined) throw new Error("usage: cluster-template.ts FILE")
// An exit, unlike a signal's default, lets the unfinished cluster be removed.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(INTERRUPTED))

const present = await readClusterTemplate(pathToFileURL(file))
if (typeof present === "string") {
  const draft = `${file}.${process.pid}.draft`
  try {
    writeFileSync(draft, await makeClusterTemplate(), { flush: true })
    renameSync(draft, file)
  } catch (error) {
    rmSync(draft, { force: true })
    console.error(error instanceof Error ? error.message : error)
    process.exitCode = 1
  }
}
