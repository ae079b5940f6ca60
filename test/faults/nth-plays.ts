/** RPCs that ask stores several times, each with what its effect is. */
import assert from "node:assert/strict"
import { CacheService } from "../../src/gen/keelplane/v1/cache_service_pb.ts"
import { ControlService } from "../../src/gen/keelplane/v1/control_service_pb.ts"
import { EventService } from "../../src/gen/keelplane/v1/event_service_pb.ts"
import { JobService } from "../../src/gen/keelplane/v1/job_service_pb.ts"
import { MemoryService } from "../../src/gen/keelplane/v1/memory_service_pb.ts"
import { CallError, type Channel } from "../support/grpc-client.ts"
import { vector } from "./callers.ts"

/** An RPC and what must be true of it. `id` is new for each play. */
export interface Play {
  readonly name: string
  /** Makes what the RPC works on. */
  prepare?(id: string): Promise<unknown>
  call(id: string): Promise<unknown>
  /** How many parts of the effect are there, of how many. */
  effect(id: string): Promise<readonly [there: number, of: number]>
  /** Some of the parts may be there after a failure; which, {@link effect} holds to its own rules. */
  readonly inParts?: boolean
  /** The most calls that are made to fail, where there is always one more. */
  readonly most?: number
  /** Calls fail while it rests, too. */
  readonly armedAtRest?: boolean
  /** The RPC goes on by itself after it failed; resolves when it does no more. */
  rest?(id: string): Promise<void>
}

/** A {@link Play} on a daemon that may not run yet. */
export interface Maker {
  readonly name: string
  on(channel: () => Channel): Play
}

/** The RPCs. */
export const PLAYS: readonly Maker[] = [
  {
    name: "AppendEvents",
    on: (channel) => ({
      name: "AppendEvents",
      call: (id) =>
        channel()
          .stub(EventService)
          .appendEvents({ stream: id, events: [{ type: "a" }, { type: "b" }], requestId: id }),
      effect: async (id) => {
        let count = 0
        try {
          for await (const { events } of channel().stub(EventService).readStream({ stream: id }))
            count += events.length
        } catch (error) {
          if (!(error instanceof CallError && error.reason === "NOT_FOUND")) throw error
        }
        return [count, 2]
      },
    }),
  },
  {
    name: "UpsertRecords",
    on: (channel) => ({
      name: "UpsertRecords",
      call: (id) => {
        const records = [1, 2].map((n) => ({ id: `${id}-${n}`, vector: vector(n) }))
        return channel().stub(MemoryService).upsertRecords({ collectionId: "nth", records, requestId: id })
      },
      effect: async (id) => {
        const ids = [`${id}-1`, `${id}-2`]
        const { records } = await channel().stub(MemoryService).getRecords({ collectionId: "nth", ids })
        return [records.length, 2]
      },
    }),
  },
  {
    name: "EnqueueJobs",
    on: (channel) => ({
      name: "EnqueueJobs",
      call: (id) =>
        channel()
          .stub(JobService)
          .enqueueJobs({ jobs: [{ queue: id }, { queue: id }], requestId: id }),
      effect: async (id) => [(await channel().stub(JobService).listJobs({ queue: id })).jobs.length, 2],
    }),
  },
  {
    name: "Execute",
    on: (channel) => ({
      name: "Execute",
      call: (id) => {
        const increment = { key: id, delta: { case: "integer" as const, value: { delta: 1n } } }
        const operations = [1, 2].map(() => ({
          operation: { case: "increment" as const, value: increment },
        }))
        return channel().stub(CacheService).execute({ operations, atomic: true, requestId: id })
      },
      effect: async (id) => {
        const { entry } = await channel().stub(CacheService).get({ key: id })
        const value = entry?.value
        return [value?.case === "integer" ? Number(value.value) : 0, 2]
      },
    }),
  },
  {
    name: "CreateUser",
    on: (channel) => ({
      name: "CreateUser",
      call: (id) =>
        channel()
          .stub(ControlService)
          .createUser({ user: { userId: id }, requestId: id }),
      effect: async (id) => [await present(() => channel().stub(ControlService).getUser({ userId: id })), 1],
    }),
  },
  {
    name: "ImportRecords",
    on: (channel) => {
      const chunks = (id: string) => [1, 2, 3].map((chunk) => [1, 2].map((n) => `${id}-${chunk}-${n}`))
      const there = async (ids: readonly string[]) => {
        const { records } = await channel()
          .stub(MemoryService)
          .getRecords({ collectionId: "nth", ids: [...ids] })
        return records.length
      }
      return {
        name: "ImportRecords",
        // Each chunk is a transaction of its own, and whoever imports repeats all of them.
        inParts: true,
        call: async (id) => {
          const { failures } = await channel()
            .stub(MemoryService)
            .importRecords(messages(chunks(id)))
          assert.deepEqual(failures, [])
        },
        effect: async (id) => {
          const counts = await Promise.all(chunks(id).map(there))
          for (const count of counts) assert.ok(count === 0 || count === 2, `a part of a chunk: ${counts}`)
          const first = counts.indexOf(0)
          assert.ok(first < 0 || counts.slice(first).every((count) => count === 0), `a gap: ${counts}`)
          return [counts.reduce((sum, count) => sum + count, 0), 6]
        },
      }
    },
  },
]

async function* messages(chunks: readonly (readonly string[])[]) {
  for (const ids of chunks)
    yield { collectionId: "nth", records: ids.map((id) => ({ id, vector: vector() })) }
}

const GONE: ReadonlySet<string> = new Set(["NOT_FOUND", "STREAM_DELETED"])

/** 1 where a read finds something, 0 where it is told that there is nothing. */
export async function present(read: () => Promise<unknown>): Promise<number> {
  try {
    await read()
    return 1
  } catch (error) {
    if (error instanceof CallError && GONE.has(error.reason)) return 0
    throw error
  }
}
