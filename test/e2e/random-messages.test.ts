/** Random messages at every RPC on the embedded default. `KEELPLANE_FUZZ_RUNS` deepens it. */
import { after, before } from "node:test"
import { type Daemon, startDaemon } from "../support/daemon.ts"
import type { Channel } from "../support/grpc-client.ts"
import { randomMessagesSuite } from "./random-messages.ts"

let daemon: Daemon
let channel: Channel

before(async () => {
  daemon = await startDaemon()
  channel = daemon.channel()
})

after(async () => {
  channel?.close()
  await daemon?.stop()
})

randomMessagesSuite(
  () => daemon,
  () => channel,
  Number(process.env.KEELPLANE_FUZZ_RUNS ?? 40),
)
