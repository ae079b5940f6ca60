/**
 * SIGKILL in the middle of writes, again and again on one data directory: after each restart every acknowledged write is
 * there. Acknowledgements are noted in this process, outside the daemon.
 */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import test from "node:test"
import { killAgainAndAgain, summaryOf } from "./kill-load.ts"

/** How often it is killed. `KEELPLANE_KILLS` deepens it. */
const KILLS = Number(process.env.KEELPLANE_KILLS ?? 5)

test(`every acknowledged write is there after ${KILLS} kills`, async (t) => {
  const dataDir = mkdtempSync(join(tmpdir(), "keelplane-kill-"))
  try {
    t.diagnostic(summaryOf(await killAgainAndAgain({ dataDir }, KILLS)))
  } finally {
    rmSync(dataDir, { recursive: true, force: true })
  }
})
