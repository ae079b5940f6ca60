/** RPCs that ask stores several times, each with what its effect is. */
import { CacheService } from "../../src/gen/keelplane/v1/cache_service_pb.ts"
import { ControlService, SagaState } from "../../src/gen/keelplane/v1/control_service_pb.ts"
import { EventService } from "../../src/gen/keelplane/v1/event_service_pb.ts"
import { JobService } from "../../src/gen/keelplane/v1/job_service_pb.ts"
import { MemoryService } from "../../src/gen/keelplane/v1/memory_service_pb.ts"
import { CallError, type Channel } from "../support/grpc-client.ts"
import { until } from "../support/until.ts"
import { vector } from "./callers.ts"

const PATIENCE_MS = 60_000
const OVER: readonly SagaState[] = [SagaState.DONE, SagaState.COMPENSATED, SagaState.STUCK]

/** An RPC and what must be true of it. `id` is new for each play. */
export interface Play {
  readonly name: string
  call(id: string): Promise<unknown>
  /** How many parts of the effect are there, of how many. */
  effect(id: string): Promise<readonly [there: number, of: number]>
  /** The RPC goes on by itself after it failed; resolves when it does no more. */
  rest?(id: string): Promise<void>
}

/** A {@link Play} on a daemon that may not run yet. */
export interface Maker {
  readonly name: string
  /** Whether it goes on as a saga. */
  readonly saga?: boolean
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
    name: "CreateAgent with provision",
    saga: true,
    on: (channel) => ({
      name: "CreateAgent with provision",
      call: (id) =>
        channel()
          .stub(ControlService)
          .createAgent({
            agent: { agentId: id },
            provision: { collection: { id, dimension: 3 }, stream: true },
            requestId: id,
          }),
      rest: (id) => atRest(channel(), "create-agent", id),
      effect: async (id) => {
        const collection = () => channel().stub(MemoryService).getCollection({ collectionId: id })
        const agent = () => channel().stub(ControlService).getAgent({ agentId: id })
        const stream = async () => {
          for await (const { events } of channel()
            .stub(EventService)
            .readStream({ stream: `agent-${id}` }))
            if (events.length > 0) return
          throw new Error("the stream is empty")
        }
        return [(await present(collection)) + (await present(agent)) + (await present(stream)), 3]
      },
    }),
  },
]

/** 1 where a read finds something, 0 where it is told that there is nothing. */
async function present(read: () => Promise<unknown>): Promise<number> {
  try {
    await read()
    return 1
  } catch (error) {
    if (error instanceof CallError && error.reason === "NOT_FOUND") return 0
    throw error
  }
}

/** Waits until every saga about `subject` has come to its end. */
async function atRest(channel: Channel, kind: string, subject: string): Promise<void> {
  await until(
    "the sagas end",
    async () => {
      const { sagas } = await channel.stub(ControlService).listSagas({ kind, pageSize: 500 })
      return sagas.every((saga) => !saga.subject.includes(subject) || OVER.includes(saga.state))
    },
    PATIENCE_MS,
  )
}
