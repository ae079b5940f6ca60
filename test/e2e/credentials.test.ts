/** Credentials against the built daemon, with authentication off and on. */
import assert from "node:assert/strict"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import test from "node:test"
import { CacheService } from "../../src/gen/keelplane/v1/cache_service_pb.ts"
import { ControlService } from "../../src/gen/keelplane/v1/control_service_pb.ts"
import { startDaemon, until } from "../support/daemon.ts"
import { CallError, type Channel } from "../support/grpc-client.ts"

async function failsWith(work: Promise<unknown>, code: number, reason: string): Promise<void> {
  await assert.rejects(work, (error) => {
    assert.ok(error instanceof CallError, String(error))
    assert.equal(error.code, code, error.message)
    assert.equal(error.reason, reason)
    return true
  })
}

const get = (channel: Channel) => channel.stub(CacheService).get({ key: "k" })
const set = (channel: Channel) =>
  channel.stub(CacheService).set({ key: "k", value: { case: "text", value: "v" } })

test("authentication off: nothing need be shown, but what is shown counts", async () => {
  const daemon = await startDaemon()
  const local = daemon.channel()
  try {
    await set(local)
    const key = await local.stub(ControlService).createApiKey({ name: "reader", permissions: ["cache.read"] })
    const reader = daemon.channel({ authorization: `Bearer ${key.token}` })
    assert.equal((await get(reader)).found, true)
    await failsWith(set(reader), 7, "PERMISSION_DENIED")
    await failsWith(reader.stub(ControlService).listTenants({}), 7, "PERMISSION_DENIED")
    await local.stub(ControlService).revokeApiKey({ apiKeyId: key.apiKey?.apiKeyId ?? "" })
    await failsWith(get(reader), 16, "UNAUTHENTICATED")
    reader.close()
    const stranger = daemon.channel({ "x-api-key": "kp_nobody_0000" })
    await failsWith(get(stranger), 16, "UNAUTHENTICATED")
    stranger.close()
  } finally {
    local.close()
    await daemon.stop()
  }
})

test("authentication on: a token of the file or an API key, two tokens at once, and the file is read again", async () => {
  const folder = mkdtempSync(join(tmpdir(), "keelplane-tokens-"))
  const file = join(folder, "tokens")
  const [first, second, third] = ["first", "second", "third"].map((name) => `${name}-`.padEnd(40, "x"))
  writeFileSync(file, `${first}\n${second}\n`, { mode: 0o600 })
  const daemon = await startDaemon({
    env: { KEELPLANE_AUTH__MODE: "required", KEELPLANE_AUTH__TOKEN_FILE: file },
  })
  const channels = [undefined, first, second, third].map((token) =>
    daemon.channel(token === undefined ? {} : { authorization: `Bearer ${token}` }),
  )
  try {
    const [nobody, one, two, three] = channels as [Channel, Channel, Channel, Channel]
    await failsWith(get(nobody), 16, "UNAUTHENTICATED")
    await failsWith(get(three), 16, "UNAUTHENTICATED")
    await Promise.all([get(one), get(two)])
    writeFileSync(file, `${second}\n${third}\n`, { mode: 0o600 })
    await until(
      () =>
        get(three).then(
          () => true,
          () => false,
        ),
      "the new token to be valid",
    )
    await failsWith(get(one), 16, "UNAUTHENTICATED")
    await get(two)
    assert.ok(!daemon.output().includes(first ?? ""), "a token is in the log")
  } finally {
    for (const channel of channels) channel.close()
    await daemon.stop()
    rmSync(folder, { recursive: true, force: true })
  }
})
