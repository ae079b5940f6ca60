/** The event suites on Cassandra, with buckets as small as can be. */
import { describe } from "node:test"
import { createCassandraEventStore } from "../../src/stores/cassandra/event-store.ts"
import { MAX_BATCH_EVENTS } from "../../src/stores/cassandra/event-tip.ts"
import type { CassandraEngine } from "../../src/stores/cassandra/index.ts"
import { eventContract } from "../contract/event.contract.ts"
import { eventDaemonsContract } from "../contract/event-daemons.contract.ts"
import { eventLogContract } from "../contract/event-log.contract.ts"
import type { EventHarness } from "../contract/event-support.ts"
import { eventTogetherContract } from "../contract/event-together.contract.ts"
import { cassandraSkip, freshTenant, testCassandra } from "../engines/cassandra.ts"

function movableClock() {
  let now = Date.now()
  return {
    now: () => now,
    set: (ms: number) => {
      now = ms
    },
    advance: (ms: number) => {
      now += ms
    },
  }
}

describe("on Cassandra", { skip: cassandraSkip, timeout: 900_000 }, () => {
  let engine: Promise<CassandraEngine> | undefined
  const make = async (): Promise<EventHarness> => {
    engine ??= testCassandra()
    const { session } = await engine
    const clock = movableClock()
    const another: EventHarness["another"] = (own = clock) =>
      createCassandraEventStore(session, { clock: own, bucketEvents: MAX_BATCH_EVENTS })
    return { store: another(), another, freshTenant, clock }
  }
  eventContract(make)
  // Whether a request_id was used before is looked up first, and takes its time.
  eventTogetherContract(make, false)
  eventLogContract(make)
  eventDaemonsContract(make)
})
