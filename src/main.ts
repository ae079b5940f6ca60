#!/usr/bin/env node
// Runs on any Node that knows modules: nothing newer than that may appear here, and nothing may be imported statically,
// so that an old runtime gets the sentence below and not a syntax error.
const wanted = [22, 11]
const found = process.versions.node.split(".").map(Number)

/** True for a runtime that lacks what the daemon needs. */
function tooOld(): boolean {
  const major = found[0] || 0
  return major < Number(wanted[0]) || (major === wanted[0] && (found[1] || 0) < Number(wanted[1]))
}

if (tooOld()) {
  console.error(`keelplane needs Node ${wanted.join(".")} or newer; this is Node ${process.versions.node}`)
  process.exitCode = 69
} else {
  import("./bootstrap/cli/run.ts").then(
    (cli) => cli.run(process.argv.slice(2)),
    (error: unknown) => {
      console.error(error)
      process.exitCode = 1
    },
  )
}
