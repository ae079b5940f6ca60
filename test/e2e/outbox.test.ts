/** A built daemon whose audit log is in another database than the changes: they reach it through the outbox. */
import assert from "node:assert/strict"
import { test } from "node:test"
import { AdminService } from "../../src/gen/keelplane/v1/admin_service_pb.ts"
import { AuditService } from "../../src/gen/keelplane/v1/audit_service_pb.ts"
import { ControlService } from "../../src/gen/keelplane/v1/control_service_pb.ts"
import { ownServerSkip, startPostgres } from "../engines/postgres.ts"
import { type Daemon, startDaemon, until } from "../support/daemon.ts"

const MANY = 20

/** The users whose creation the log tells of, in its order. */
async function recorded(daemon: Daemon): Promise<readonly string[]> {
  const channel = daemon.channel()
  try {
    const query = { action: "CreateUser" }
    const { records } = await channel.stub(AuditService).queryAudit({ query, pageSize: 1_000 })
    return records.map(({ resourceId }) => resourceId).reverse()
  } finally {
    channel.close()
  }
}

async function createUsers(daemon: Daemon, first: number): Promise<void> {
  const channel = daemon.channel()
  try {
    for (let n = first; n < first + MANY; n++) {
      await channel.stub(ControlService).createUser({ user: { userId: `user-${n}` } })
    }
  } finally {
    channel.close()
  }
}

async function pending(daemon: Daemon): Promise<bigint> {
  const channel = daemon.channel()
  try {
    const { topics, parkedEntries } = await channel.stub(AdminService).listOutbox({})
    assert.deepEqual(parkedEntries, [])
    return topics.reduce((sum, { pendingCount }) => sum + pendingCount, 0n)
  } finally {
    channel.close()
  }
}

test("changes are recorded once and in order, whether the log is away or the daemon is killed meanwhile", {
  skip: ownServerSkip,
  timeout: 300_000,
}, async () => {
  const server = await startPostgres()
  const env = { KEELPLANE_STORES__EVENTS__URL: server.url }
  let daemon = await startDaemon({ env })
  try {
    const names = Array.from({ length: 3 * MANY }, (_, n) => `user-${n}`)
    await createUsers(daemon, 0)
    await until(async () => (await recorded(daemon)).length === MANY, "the first changes in the log")
    const metrics = await (await fetch(`http://${daemon.opsAddress}/metrics`)).text()
    assert.match(
      metrics,
      /keelplane_outbox_entries_total\{store="[a-z+]*control[a-z+]*",topic="audit",state="done"\} \d+/,
    )
    await server.stop()
    await createUsers(daemon, MANY)
    assert.equal(await pending(daemon), BigInt(MANY))
    await server.start()
    await until(async () => (await pending(daemon)) === 0n, "the log to be level again")
    // Killed right behind the last acknowledgement: the log may have some of these, all of them, or none.
    await createUsers(daemon, 2 * MANY)
    await daemon.end("SIGKILL")
    daemon = await startDaemon({ env, dataDir: daemon.dataDir })
    await until(async () => (await recorded(daemon)).length >= names.length, "all changes in the log")
    await until(async () => (await pending(daemon)) === 0n, "an empty outbox")
    assert.deepEqual(await recorded(daemon), names)
  } finally {
    await daemon.stop()
  }
})
