/**
 * A PostgreSQL server that follows another one synchronously, made by the low-level backup functions: the packaged server comes without
 * the programs that make one.
 */
import { execFile } from "node:child_process"
import { chownSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"
import pg from "pg"
import { administer, ask, atEnd } from "../engines/postgres.ts"
import { account, postgresTool } from "../engines/postgres-install.ts"
import { PostgresServer } from "../engines/postgres-server.ts"
import { pathOf } from "../support/tools.ts"
import { until } from "../support/until.ts"

const run = promisify(execFile)
const COPY_MS = 120_000
const PATIENCE_MS = 90_000
/** Copies are tried again: a server that works may remove a file meanwhile. */
const MOST_COPIES = 5
/** What the copy must not have of the server that runs, see "Making a Base Backup Using the Low Level API". */
const NOT_COPIED = ["postmaster.pid", "postmaster.opts", "pg_replslot"]

/** Starts a follower of `primary`, which from then on acknowledges only what both have. Both are removed after the tests. */
export async function startStandby(primary: PostgresServer, hba: readonly string[]): Promise<PostgresServer> {
  const home = mkdtempSync(join(tmpdir(), "keelplane-standby-"))
  atEnd(async () => rmSync(home, { recursive: true, force: true }))
  if (account !== undefined) chownSync(home, account.uid, account.gid)
  symlinkSync(join(pathOf(await postgresTool(18)), "bin"), join(home, "bin"))
  // What is written between the copy and the first connection of the follower must still be there then.
  await administer(primary.socketUrl, "alter system set wal_keep_size = '48MB'", "select pg_reload_conf()")
  await backUp(primary, join(home, "cluster"))
  const standby = await PostgresServer.make(home, {
    hba,
    settings: {
      synchronous_commit: "on",
      primary_conninfo: `host=${primary.folder} port=${primary.port} user=postgres application_name=standby`,
    },
  })
  atEnd(() => standby.remove())
  await administer(
    primary.socketUrl,
    "alter system set synchronous_standby_names = 'standby'",
    "select pg_reload_conf()",
  )
  await until("the standby follows", () => follows(primary), PATIENCE_MS)
  return standby
}

/** The follower becomes a server of its own. */
export async function promote(standby: PostgresServer): Promise<void> {
  await administer(standby.socketUrl, "select pg_promote()")
  await until(
    "the standby takes writes",
    async () => {
      const [row] = await ask(standby.socketUrl, "select pg_is_in_recovery() as follows")
      return row?.follows === false
    },
    PATIENCE_MS,
  )
}

async function follows(primary: PostgresServer): Promise<boolean> {
  const rows = await ask(
    primary.socketUrl,
    "select 1 from pg_stat_replication where state = 'streaming' and sync_state = 'sync'",
  )
  return rows.length === 1
}

/** Copies the files of a server that runs; `data` then leads to the state at the end of the copy. */
async function backUp(primary: PostgresServer, data: string): Promise<void> {
  // The functions belong to one session.
  const client = new pg.Client({ connectionString: primary.socketUrl })
  await client.connect()
  try {
    await client.query("select pg_backup_start('standby', true)")
    await copy(join(primary.folder, "data"), data)
    const { rows } = await client.query<{ labelfile: string }>(
      "select labelfile from pg_backup_stop(wait_for_archive => false)",
    )
    for (const name of NOT_COPIED) rmSync(join(data, name), { recursive: true, force: true })
    for (const name of readdirSync(join(data, "pg_wal")))
      rmSync(join(data, "pg_wal", name), { recursive: true, force: true })
    own(data, "backup_label", rows[0]?.labelfile ?? "")
    own(data, "standby.signal", "")
    for (const name of ["pg_replslot", "pg_wal/archive_status", "pg_wal/summaries"]) {
      mkdirSync(join(data, name), { mode: 0o700 })
      if (account !== undefined) chownSync(join(data, name), account.uid, account.gid)
    }
  } finally {
    await client.end()
  }
}

async function copy(from: string, to: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await run("cp", ["-R", "-p", from, to], { ...account, cwd: "/", timeout: COPY_MS })
      return
    } catch (error) {
      if (attempt === MOST_COPIES) throw error
      rmSync(to, { recursive: true, force: true })
    }
  }
}

function own(folder: string, name: string, text: string): void {
  const path = join(folder, name)
  writeFileSync(path, text, { mode: 0o600 })
  if (account !== undefined) chownSync(path, account.uid, account.gid)
}
