/**
 * Where the data of a user or an agent are, plane by plane. What the API gives a field for is found by it; elsewhere a
 * convention holds, which docs/erasure.md tells callers:
 * records whose metadata has `user_id` or `agent_id`, streams named `user-<id>` or `agent-<id>`, cache entries tagged `user:<id>` or
 * `agent:<id>`.
 */

import type { Namespaces } from "../cache/namespaces.ts"
import type { CacheStore } from "../cache/ports.ts"
import type { EventStore } from "../event/event-store.ts"
import type { SessionStore } from "../event/session-store.ts"
import { DomainError } from "../kernel/errors.ts"
import { type Filter, parseFilter } from "../kernel/filter/index.ts"
import type { Page, PageRequest } from "../kernel/paging.ts"
import type { CallScope } from "../kernel/scope.ts"
import { type MemoryStore, RECORD_FIELDS } from "../memory/ports.ts"
import type { ErasureSubject, Removal, SubjectEraser } from "./erasure.ts"
import type { AgentStore, ApiKeyStore, UserStore } from "./ports.ts"
import type { ControlSignals } from "./signals.ts"

const PAGE_SIZE = 100

/** The subject's own row with its roles, and its keys, which are revoked: no call of the subject gets in from then on. */
export function controlSubjects(deps: {
  readonly users: UserStore
  readonly agents: AgentStore
  readonly keys: ApiKeyStore
  readonly signals: ControlSignals
}): SubjectEraser {
  const rows = ({ kind }: ErasureSubject) => (kind === "user" ? deps.users : deps.agents)
  return {
    name: "control",
    remaining: async (scope, subject) => ((await exists(() => rows(subject).get(scope, subject.id))) ? 1 : 0),
    erase: async (scope, subject) => {
      // Deleting also revokes its keys and drops its assignments.
      const there = await exists(() => rows(subject).delete(scope, subject.id))
      deps.signals.identityChanged()
      return removal("control", `${subject.kind}s`, there ? 1 : 0)
    },
  }
}

/** Records of all collections whose metadata name the subject. */
export function memorySubjects(memory: MemoryStore): SubjectEraser {
  const collections = (scope: CallScope) => items((page) => memory.listCollections(scope, page, undefined))
  return {
    name: "memory",
    remaining: async (scope, subject) => {
      let count = 0
      for await (const collection of collections(scope))
        count += await memory.count(scope, collection, recordFilter(subject))
      return count
    },
    erase: async (scope, subject) => {
      let count = 0
      const filter = recordFilter(subject)
      for await (const { id } of collections(scope)) {
        // A collection that went meanwhile took its records along.
        await exists(async () => {
          count += await memory.delete(scope, id, { filter })
        })
      }
      return removal("memory", "records", count)
    },
  }
}

/** The sessions of the subject, with their messages. */
export function sessionSubjects(sessions: SessionStore): SubjectEraser {
  const of = (scope: CallScope, { kind, id }: ErasureSubject, page: PageRequest) =>
    sessions.list(scope, kind === "user" ? { userId: id } : { agentId: id }, page)
  return {
    name: "sessions",
    remaining: async (scope, subject) => (await of(scope, subject, { size: 1 })).items.length,
    erase: async (scope, subject) => {
      let count = 0
      for await (const { sessionId } of items((page) => of(scope, subject, page))) {
        if (await sessions.erase(scope, sessionId)) count++
      }
      return removal("events", "sessions", count)
    },
  }
}

/** The stream of the subject. A tombstone of it stays, so that its revisions are never given out again. */
export function streamSubjects(events: EventStore): SubjectEraser {
  const name = ({ kind, id }: ErasureSubject) => `${kind}-${id}`
  const live = async (scope: CallScope, subject: ErasureSubject) => {
    let deleted = true
    await exists(async () => {
      deleted = (await events.getStream(scope, name(subject))).deletedMs !== undefined
    })
    return !deleted
  }
  return {
    name: "streams",
    remaining: async (scope, subject) => ((await live(scope, subject)) ? 1 : 0),
    erase: async (scope, subject) => {
      const there = await live(scope, subject)
      if (there) await events.deleteStream(scope, name(subject), undefined)
      return removal("events", "streams", there ? 1 : 0)
    },
  }
}

/** Cache entries with the subject's tag, in every namespace that is configured. */
export function cacheSubjects(cache: CacheStore, namespaces: Namespaces): SubjectEraser {
  return {
    name: "cache",
    // Entries with an invalidated tag are absent at once, whether or not their memory is free already.
    remaining: async () => 0,
    erase: async (scope, { kind, id }) => {
      const all = namespaces.list()
      for (const namespace of all) await cache.invalidateTags(scope, namespace, [`${kind}:${id}`])
      return removal("cache", "tags", all.length)
    },
  }
}

function removal(store: string, what: string, count: number): readonly Removal[] {
  return count === 0 ? [] : [{ store, what, count }]
}

function recordFilter({ kind, id }: ErasureSubject): Filter {
  const filter = parseFilter(`metadata.${kind}_id = ${JSON.stringify(id)}`, RECORD_FIELDS)
  if (filter === undefined) throw new Error("the filter of a subject is never empty")
  return filter
}

/** Whether `work` found what it is about. */
async function exists(work: () => Promise<unknown>): Promise<boolean> {
  try {
    await work()
    return true
  } catch (error) {
    if (error instanceof DomainError && error.reason === "NOT_FOUND") return false
    throw error
  }
}

async function* items<T>(list: (page: PageRequest) => Promise<Page<T>>): AsyncGenerator<T> {
  let cursor: readonly string[] | undefined
  do {
    const page = await list({ size: PAGE_SIZE, ...(cursor === undefined ? {} : { cursor }) })
    yield* page.items
    cursor = page.next
  } while (cursor !== undefined)
}
