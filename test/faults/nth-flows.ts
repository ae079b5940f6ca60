/** RPCs that go on as sagas, each with what its effect is. */
import { CacheService } from "../../src/gen/keelplane/v1/cache_service_pb.ts"
import { ControlService, SagaState, TenantStatus } from "../../src/gen/keelplane/v1/control_service_pb.ts"
import { EventService } from "../../src/gen/keelplane/v1/event_service_pb.ts"
import { MemoryService } from "../../src/gen/keelplane/v1/memory_service_pb.ts"
import { SessionService } from "../../src/gen/keelplane/v1/session_service_pb.ts"
import type { CallOptions, Channel } from "../support/grpc-client.ts"
import { until } from "../support/until.ts"
import { vector } from "./callers.ts"
import { type Maker, present } from "./nth-plays.ts"

const PATIENCE_MS = 90_000
const OVER: readonly SagaState[] = [SagaState.DONE, SagaState.COMPENSATED, SagaState.STUCK]
/** Subjects are erased in a tenant of their own: every collection of it is looked through. */
const SUBJECTS = "nth-subjects"

const within = (tenant: string): CallOptions => ({ headers: { "x-keelplane-tenant": tenant } })
const textOf = (value: string) => ({ case: "text", value }) as const

/** The RPCs. */
export const FLOWS: readonly Maker[] = [
  {
    name: "CreateAgent with provision",
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
      rest: (id) => atRest(channel(), { kind: "create-agent" }, id),
      effect: async (id) => {
        const collection = () => channel().stub(MemoryService).getCollection({ collectionId: id })
        const agent = () => channel().stub(ControlService).getAgent({ agentId: id })
        const parts = [present(collection), present(agent), present(() => events(channel(), `agent-${id}`))]
        return [sum(await Promise.all(parts)), 3]
      },
    }),
  },
  {
    name: "DeleteTenant",
    on: (channel) => ({
      name: "DeleteTenant",
      prepare: async (id) => {
        await channel()
          .stub(ControlService)
          .createTenant({ tenant: { tenantId: id } })
        await fill(channel(), id, "ann")
      },
      call: (id) => channel().stub(ControlService).deleteTenant({ tenantId: id, force: true, requestId: id }),
      rest: (id) => atRest(channel(), { kind: "delete-tenant", platform: true }, id),
      effect: async (id) => {
        const control = channel().stub(ControlService)
        const tenant = () => control.getTenant({ tenantId: id })
        if ((await present(tenant)) === 1) {
          const { tenant: found } = await tenant()
          // Shut out and yet not gone would be half a deletion.
          return [5 - (await held(channel(), id, "ann")) + (found?.status === TenantStatus.ACTIVE ? 0 : 1), 6]
        }
        // A new one of the same name finds nothing, and holds nothing.
        await control.createTenant({ tenant: { tenantId: id } })
        const left = await held(channel(), id, "ann")
        await control.deleteTenant({ tenantId: id })
        return [6 - left, 6]
      },
    }),
  },
  {
    name: "EraseSubject",
    on: (channel) => ({
      name: "EraseSubject",
      prepare: async (id) => {
        const tenant = { tenantId: SUBJECTS }
        const control = channel().stub(ControlService)
        if ((await present(() => control.getTenant(tenant))) === 0) await control.createTenant({ tenant })
        await fill(channel(), SUBJECTS, id)
      },
      call: (id) =>
        channel()
          .stub(ControlService)
          .eraseSubject({ subject: { case: "userId", value: id }, requestId: id }, within(SUBJECTS)),
      rest: (id) => atRest(channel(), { kind: "erase-subject" }, id, within(SUBJECTS)),
      effect: async (id) => [5 - (await held(channel(), SUBJECTS, id)), 5],
    }),
  },
]

/** Five things of a user, one in each plane that has any. */
async function fill(channel: Channel, tenant: string, user: string): Promise<void> {
  const options = within(tenant)
  const memory = channel.stub(MemoryService)
  await channel.stub(ControlService).createUser({ user: { userId: user } }, options)
  const collectionId = "of-tests"
  if ((await present(() => memory.getCollection({ collectionId }, options))) === 0)
    await memory.createCollection({ collection: { id: collectionId, dimension: 3 } }, options)
  const record = { id: user, vector: vector(), metadata: { user_id: user } }
  await memory.upsertRecords({ collectionId, records: [record] }, options)
  await channel
    .stub(EventService)
    .appendEvents({ stream: `user-${user}`, events: [{ type: "made" }] }, options)
  const session = { sessionId: user, userId: user }
  await channel.stub(SessionService).createSession({ session }, options)
  const entry = { key: user, value: textOf("v"), tags: [`user:${user}`] }
  await channel.stub(CacheService).set(entry, options)
}

/** How many of the five are there. */
async function held(channel: Channel, tenant: string, user: string): Promise<number> {
  const options = within(tenant)
  const records = async () => {
    const request = { collectionId: "of-tests", ids: [user] }
    const found = await channel.stub(MemoryService).getRecords(request, options)
    return found.records.length
  }
  const cached = async () => Number((await channel.stub(CacheService).get({ key: user }, options)).found)
  const collection = () => channel.stub(MemoryService).getCollection({ collectionId: "of-tests" }, options)
  const parts = [
    present(() => channel.stub(ControlService).getUser({ userId: user }, options)),
    present(collection).then((there) => (there === 0 ? 0 : records())),
    present(() => events(channel, `user-${user}`, options)),
    present(() => channel.stub(SessionService).getSession({ sessionId: user }, options)),
    cached(),
  ]
  return sum(await Promise.all(parts))
}

async function events(channel: Channel, stream: string, options?: CallOptions): Promise<void> {
  for await (const part of channel.stub(EventService).readStream({ stream }, options))
    if (part.events.length > 0) return
  throw new Error(`the stream ${stream} is empty`)
}

const sum = (numbers: readonly number[]) => numbers.reduce((all, each) => all + each, 0)

/** Waits until every saga about `subject` has come to its end. */
async function atRest(
  channel: Channel,
  query: { readonly kind: string; readonly platform?: boolean },
  subject: string,
  options?: CallOptions,
): Promise<void> {
  await until(
    "the sagas end",
    async () => {
      const { sagas } = await channel.stub(ControlService).listSagas({ ...query, pageSize: 1_000 }, options)
      return sagas.every((saga) => !saga.subject.includes(subject) || OVER.includes(saga.state))
    },
    PATIENCE_MS,
  )
}
