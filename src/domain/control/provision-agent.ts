/** An agent with what it needs in the other planes: all of it, or none. */
import { isDeepStrictEqual } from "node:util"
import type { Namespaces } from "../cache/namespaces.ts"
import type { CacheStore } from "../cache/ports.ts"
import { appendBatch } from "../event/append-events.ts"
import type { EventLog } from "../event/event-log.ts"
import type { Clock } from "../kernel/clock.ts"
import { DomainError } from "../kernel/errors.ts"
import type { JsonObject } from "../kernel/json.ts"
import { uuid5 } from "../kernel/uuid5.ts"
import { createCollection } from "../memory/create-collection.ts"
import type { CollectionDraft } from "../memory/model.ts"
import type { Embedders, MemoryStore } from "../memory/ports.ts"
import { mayBeForgotten, once } from "../saga/once.ts"
import type { SagaDefinition, StepContext, StepDefinition } from "../saga/runner.ts"
import type { AgentFields } from "./model.ts"
import type { AgentStore, RoleStore } from "./ports.ts"

/** The kind of the saga; its subject is the agent's id. */
export const CREATE_AGENT = "create-agent"

const METHOD = "keelplane.v1.ControlService/CreateAgent"

/** What an agent is to have besides its row. */
export interface AgentProvision {
  readonly collection: CollectionDraft | undefined
  /** Whether the stream `agent-<id>` begins with an event `agent.created`. */
  readonly stream: boolean
  /** Roles to be given to it everywhere. */
  readonly roleIds: readonly string[]
}

/** What the saga works on. */
export interface ProvisionDeps {
  readonly agents: AgentStore
  readonly roles: RoleStore
  readonly memory: MemoryStore
  readonly embedders: Embedders
  readonly events: Pick<EventLog, "append">
  readonly cache: CacheStore
  readonly namespaces: Namespaces
  readonly clock: Clock
}

/** The saga's input. */
export function provisionInput(fields: AgentFields, provision: AgentProvision): JsonObject {
  return JSON.parse(JSON.stringify({ fields, provision })) as JsonObject
}

/**
 * The saga: `agent`, `roles`, `collection`, `cache`, `stream`. The stream is last, for a stream that is deleted can never be made
 * again, and after it nothing can be refused any more.
 */
export function createAgentSaga(deps: ProvisionDeps): SagaDefinition {
  return {
    kind: CREATE_AGENT,
    steps: [agent(deps), roles(deps), collection(deps), cache(deps), stream(deps)],
  }
}

function agent(deps: ProvisionDeps): StepDefinition {
  const { agents } = deps
  return {
    name: "agent",
    run: async (scope, context) => {
      const { subject } = context.saga
      const { fields } = inputOf(context)
      await madeOnce(deps, context, {
        make: () => agents.create(once(scope, context, METHOD), subject, fields),
        isOurs: async () => {
          const { id, revision, createTime, updateTime, ...found } = await agents.get(scope, subject)
          return createTime >= context.saga.createdMs && isDeepStrictEqual(plain(found), plain(fields))
        },
      })
      return {}
    },
    // With it go its roles.
    undo: (scope, { saga }) => gone(agents.delete(scope, saga.subject)),
  }
}

function roles({ roles: store }: ProvisionDeps): StepDefinition {
  return {
    name: "roles",
    run: async (scope, context) => {
      const subject = { kind: "agent", id: context.saga.subject } as const
      for (const roleId of inputOf(context).provision.roleIds) await store.assign(scope, roleId, subject, "")
      return {}
    },
  }
}

function collection(deps: ProvisionDeps): StepDefinition {
  return {
    name: "collection",
    run: async (scope, context): Promise<JsonObject> => {
      const draft = inputOf(context).provision.collection
      if (draft === undefined) return {}
      const store = deps.memory
      const complete = { ...draft, defaultTtlMs: draft.defaultTtlMs }
      const within = { store, embedders: deps.embedders }
      await madeOnce(deps, context, {
        make: () => createCollection(within, once(scope, context, METHOD), complete),
        isOurs: async () => {
          const { createTimeMs, description, labels } = await store.getCollection(scope, draft.id)
          const same = isDeepStrictEqual(
            [description, { ...labels }],
            [draft.description, { ...draft.labels }],
          )
          return createTimeMs >= context.saga.createdMs && same
        },
      })
      return { collection: draft.id }
    },
    undo: async (scope, context) => {
      const id = context.result("collection").collection
      if (typeof id === "string") await gone(deps.memory.deleteCollection(scope, id, undefined))
    },
  }
}

/** What was cached for an earlier agent of the same id is not for this one. */
function cache({ cache: store, namespaces }: ProvisionDeps): StepDefinition {
  return {
    name: "cache",
    run: async (scope, { saga }) => {
      for (const namespace of namespaces.list())
        await store.invalidateTags(scope, namespace, [`agent:${saga.subject}`])
      return {}
    },
  }
}

/** Makes ids of events from ids of steps; any UUID will do. */
const EVENT_ID_SPACE = "5d2a3c1e-8f0b-4c55-9a6e-0f3b7a1c9d24"

function stream({ events }: ProvisionDeps): StepDefinition {
  return {
    name: "stream",
    run: async (scope, context): Promise<JsonObject> => {
      const { provision, fields } = inputOf(context)
      if (!provision.stream) return {}
      const name = `agent-${context.saga.subject}`
      const created = {
        // The store knows a repetition by it.
        eventId: uuid5(context.opId, EVENT_ID_SPACE),
        type: "agent.created",
        data: {
          kind: "json",
          value: { agent_id: context.saga.subject, user_id: fields.userId, display_name: fields.displayName },
        },
        contentType: "",
        correlationId: context.saga.id,
        causationId: "",
        traceParent: "",
      } as const
      await events.append(scope, appendBatch(name, { kind: "no_stream" }, [created]))
      return { stream: name }
    },
  }
}

/**
 * Makes something under the step's request_id. A store that was away for so long that it has forgotten the first attempt may have what
 * that made: what is there is then looked at.
 */
async function madeOnce(
  { clock }: ProvisionDeps,
  context: StepContext,
  work: { readonly make: () => Promise<unknown>; readonly isOurs: () => Promise<boolean> },
): Promise<void> {
  try {
    await work.make()
  } catch (error) {
    const exists = error instanceof DomainError && error.reason === "ALREADY_EXISTS"
    if (!exists || !mayBeForgotten(clock, context) || !(await work.isOurs())) throw error
  }
}

/** As the saga keeps it: what is undefined is left out. */
const plain = (value: object) => JSON.parse(JSON.stringify(value)) as unknown

function inputOf({ saga }: StepContext): {
  readonly fields: AgentFields
  readonly provision: AgentProvision
} {
  return saga.input as unknown as { fields: AgentFields; provision: AgentProvision }
}

/** What is not there any more need not be taken back. */
async function gone(work: Promise<unknown>): Promise<void> {
  try {
    await work
  } catch (error) {
    if (!(error instanceof DomainError && error.reason === "NOT_FOUND")) throw error
  }
}
