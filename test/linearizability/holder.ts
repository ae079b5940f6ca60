/**
 * A worker that holds a lock and uses what it protects, in a process of its own, so that a test can freeze it: it tells the parent
 * process each use with its token, and renews its lease before each.
 * Arguments: the daemon's address, the lock's name, the lease in milliseconds.
 */
import { LockService } from "../../src/gen/keelplane/v1/lock_service_pb.ts"
import { CallError, connect } from "../support/grpc-client.ts"

const [address = "", name = "", lease = ""] = process.argv.slice(2)
const ttl = { seconds: BigInt(Math.floor(Number(lease) / 1_000)), nanos: (Number(lease) % 1_000) * 1_000_000 }
const channel = connect(address)
const locks = channel.stub(LockService)
const { acquired, token } = await locks.acquireLock({ name, ownerId: "worker", ttl })
if (!acquired) throw new Error("somebody else holds the lock")
for (let uses = 0; ; uses++) {
  // The use comes first: a worker that was frozen between its look at the lease and its use is the one that fencing is for.
  process.send?.({ token: Number(token), uses })
  try {
    await locks.renewLock({ name, token, ttl })
  } catch (error) {
    if (!(error instanceof CallError)) throw error
    process.send?.({ refused: error.reason })
    break
  }
  await new Promise((resolve) => setTimeout(resolve, 20))
}
channel.close()
process.disconnect?.()
