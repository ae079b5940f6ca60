/** Clients of each kind of object that promises an order: what they ask, and how answers are noted. */
import {
  BillingService,
  BudgetEnforcement,
  BudgetPeriod,
} from "../../src/gen/keelplane/v1/billing_service_pb.ts"
import { CacheService } from "../../src/gen/keelplane/v1/cache_service_pb.ts"
import { ControlService } from "../../src/gen/keelplane/v1/control_service_pb.ts"
import { EventService } from "../../src/gen/keelplane/v1/event_service_pb.ts"
import { LockService } from "../../src/gen/keelplane/v1/lock_service_pb.ts"
import type { CallError, CallOptions, Channel } from "../support/grpc-client.ts"
import { type Asked, answering, type Told } from "./history.ts"

/** One call: what is asked, and how. */
export interface Step {
  readonly asked: Asked
  /** Makes the call; the same `requestId` for each repetition. An answer that says itself that it is no answer is undefined. */
  call(channel: Channel, requestId: string, options: CallOptions): Promise<Told | undefined>
  /** What the client remembers of the answer. */
  learn?(told: Told): void
}

/** A client of one object. */
export interface Client {
  /** The next thing that it does. */
  next(): Step
}

/** A kind of object. */
export interface Kind {
  readonly name: string
  /** Makes the object, where it has to be made. */
  prepare?(channel: Channel, key: string): Promise<void>
  client(key: string, random: () => number, name: string): Client
}

const actual = (error: CallError): Told => ({
  applied: false,
  revision: Number(error.metadata.actual ?? 0),
})
const refused = (): Told => ({ applied: false, revision: 0 })
const absent = (): Told => ({ applied: false, revision: 0, found: "" })

/** Streams: appends that expect a revision, some that do not, and reads of all of it. */
const stream: Kind = {
  name: "stream",
  client(key, random, name) {
    let head = 0
    let count = 0
    const learn = (told: Told) => {
      head = told.revision
    }
    const read: Step = {
      asked: { op: "read" },
      call: async (channel, _, options) => {
        const seen: string[] = []
        const frames = channel.stub(EventService).readStream({ stream: key }, options)
        return answering(
          async () => {
            for await (const { events } of frames) for (const { type } of events) seen.push(`${type} `)
            return { applied: true, revision: seen.length, found: seen.join("") }
          },
          { NOT_FOUND: absent },
        )
      },
      learn,
    }
    return {
      next() {
        const dice = random()
        if (dice < 0.2) return read
        const expected = dice < 0.3 ? undefined : head
        const type = `${name}.${++count}`
        const asked = { op: "append", value: type, ...(expected === undefined ? {} : { expected }) }
        const expectation =
          expected === undefined
            ? ({ case: "any", value: true } as const)
            : ({ case: "revision", value: BigInt(expected) } as const)
        const call: Step["call"] = (channel, requestId, options) => {
          const request = { stream: key, events: [{ type }], requestId, expected: expectation }
          return answering(
            async () => {
              const { lastRevision } = await channel.stub(EventService).appendEvents(request, options)
              return { applied: true, revision: Number(lastRevision) }
            },
            { REVISION_MISMATCH: actual },
          )
        }
        return { asked, call, learn }
      },
    }
  },
}

/** Configuration: versions that must not fork. */
const config: Kind = {
  name: "config",
  client(key, random, name) {
    let version = 0
    let count = 0
    const learn = (told: Told) => {
      version = told.revision
    }
    const get: Step = {
      asked: { op: "get" },
      call: (channel, _, options) =>
        answering(
          async () => {
            const { config: found } = await channel.stub(ControlService).getConfig({ key }, options)
            const value = found?.value.case === "structValue" ? String(found.value.value.v) : ""
            return { applied: true, revision: Number(found?.version ?? 0), found: value }
          },
          { NOT_FOUND: absent },
        ),
      learn,
    }
    return {
      next() {
        const dice = random()
        if (dice < 0.25) return get
        const expected = dice < 0.35 ? undefined : version
        const value = `${name}.${++count}`
        const asked = { op: "put", value, ...(expected === undefined ? {} : { expected }) }
        const call: Step["call"] = (channel, requestId, options) => {
          const content = { case: "structValue", value: { v: value } } as const
          const condition = expected === undefined ? {} : { ifVersion: BigInt(expected) }
          return answering(
            async () => {
              const request = { key, value: content, requestId, ...condition }
              const { config: put } = await channel.stub(ControlService).putConfig(request, options)
              return { applied: true, revision: Number(put?.version ?? 0) }
            },
            { REVISION_MISMATCH: actual },
          )
        }
        return { asked, call, learn }
      },
    }
  },
}

/** Cached values, written only over the revision that was read. */
const cache: Kind = {
  name: "cache",
  client(key, random, name) {
    let revision = 0
    let count = 0
    const learn = (told: Told) => {
      revision = told.revision
    }
    const get: Step = {
      asked: { op: "get" },
      call: async (channel, _, options) => {
        const { entry, degraded } = await channel.stub(CacheService).get({ key }, options)
        // A miss for want of the server, as the answer says.
        if (degraded) return undefined
        const found = entry?.value.case === "text" ? entry.value.value : ""
        return { applied: true, revision: Number(entry?.revision ?? 0), found }
      },
      learn,
    }
    return {
      next() {
        if (random() < 0.3) return get
        const expected = revision
        const value = `${name}.${++count}`
        const call: Step["call"] = (channel, requestId, options) => {
          const content = { case: "text", value } as const
          const lasting = { case: "noExpiry", value: true } as const
          const condition = { ifRevisionMatch: BigInt(expected), expiration: lasting }
          return answering(
            async () => {
              const request = { key, value: content, requestId, ...condition }
              const answer = await channel.stub(CacheService).set(request, options)
              return { applied: answer.applied, revision: Number(answer.revision) }
            },
            { REVISION_MISMATCH: actual },
          )
        }
        return { asked: { op: "set", value, expected }, call, learn }
      },
    }
  },
}

const BUDGET = 20

/** A budget that reservations must not exceed together. */
const budget: Kind = {
  name: "budget",
  async prepare(channel, key) {
    const terms = { period: BudgetPeriod.TOTAL, enforcement: BudgetEnforcement.HARD }
    const request = { budgetId: key, meter: key, limit: String(BUDGET), ...terms }
    await channel.stub(BillingService).setBudget({ budget: request })
  },
  client(key, random) {
    const held: { readonly id: string; readonly amount: number }[] = []
    const get: Step = {
      asked: { op: "get" },
      call: async (channel, _, options) => {
        const { budget: view } = await channel.stub(BillingService).getBudget({ budgetId: key }, options)
        return { applied: true, revision: Number(view?.status?.reserved ?? -1) }
      },
    }
    const release = ({ id, amount }: { id: string; amount: number }): Step => ({
      asked: { op: "release", amount },
      call: async (channel, requestId, options) => {
        await channel.stub(BillingService).releaseUsage({ reservationId: id, requestId }, options)
        return { applied: true, revision: 0 }
      },
    })
    const reserve = (amount: number): Step => ({
      asked: { op: "reserve", amount, limit: BUDGET },
      call: (channel, requestId, options) =>
        answering(
          async () => {
            const items = [{ meter: key, quantity: String(amount) }]
            const answer = await channel.stub(BillingService).reserveUsage({ items, requestId }, options)
            const id = answer.reservation?.reservationId ?? ""
            if (!held.some((each) => each.id === id)) held.push({ id, amount })
            return { applied: true, revision: 0 }
          },
          { BUDGET_EXCEEDED: refused },
        ),
    })
    return {
      next() {
        const dice = random()
        if (dice < 0.2) return get
        const mine = dice < 0.55 ? held.pop() : undefined
        return mine === undefined ? reserve(1 + Math.floor(random() * 6)) : release(mine)
      },
    }
  },
}

/** Short enough that leases elapse during a run. */
const LEASE_MS = 400

/** A lock with short leases, which its holders renew, give back or forget. */
const lock: Kind = {
  name: "lock",
  client(key, random, name) {
    let token = 0
    const lease = { amount: LEASE_MS * 1_000 }
    const ttl = { nanos: LEASE_MS * 1_000_000 }
    const forget = ({ applied }: Told) => {
      if (!applied) token = 0
    }
    const get: Step = {
      asked: { op: "get" },
      call: async (channel, _, options) => {
        const { holder } = await channel.stub(LockService).getLock({ name: key }, options)
        return { applied: true, revision: Number(holder?.token ?? 0) }
      },
    }
    const acquire = (waitMs: number): Step => ({
      asked: { op: "acquire", ...lease },
      call: async (channel, requestId, options) => {
        const request = { name: key, ownerId: name, ttl, wait: { nanos: waitMs * 1_000_000 }, requestId }
        const answer = await channel.stub(LockService).acquireLock(request, options)
        const holding = answer.acquired ? answer.token : (answer.holder?.token ?? 0n)
        return { applied: answer.acquired, revision: Number(holding) }
      },
      learn: ({ applied, revision }) => {
        token = applied ? revision : 0
      },
    })
    const renew = (mine: number): Step => ({
      asked: { op: "renew", expected: mine, ...lease },
      call: (channel, requestId, options) =>
        answering(
          async () => {
            const request = { name: key, token: BigInt(mine), ttl, requestId }
            await channel.stub(LockService).renewLock(request, options)
            return { applied: true, revision: 0 }
          },
          { LOCK_NOT_HELD: refused },
        ),
      learn: forget,
    })
    const release = (mine: number): Step => ({
      asked: { op: "release", expected: mine },
      call: (channel, requestId, options) =>
        answering(
          async () => {
            await channel
              .stub(LockService)
              .releaseLock({ name: key, token: BigInt(mine), requestId }, options)
            return { applied: true, revision: 0 }
          },
          { LOCK_NOT_HELD: refused },
        ),
      learn: () => {
        token = 0
      },
    })
    return {
      next() {
        const dice = random()
        if (dice < 0.15) return get
        if (token === 0) return acquire(dice < 0.5 ? 0 : 200)
        if (dice < 0.45) return renew(token)
        if (dice < 0.85) return release(token)
        token = 0
        return get
      },
    }
  },
}

/** Every kind, by the names of the checker's models. */
export const KINDS: readonly Kind[] = [stream, config, cache, budget, lock]
