/** Jobs of a tenant that are partly in a history: the queue's first, then what has left it. */
import type { JobHistory } from "../event/job-history.ts"
import type { Job } from "../event/job-model.ts"
import type { CallScope } from "../kernel/scope.ts"
import { requireLive } from "../kernel/wake-ups.ts"
import type { ItemOf } from "./model.ts"
import type { Archive, ItemSink } from "./ports.ts"

const PAGE = 100

/**
 * The archive of the queue with the jobs of `history`. What is written goes into the queue, from where ended jobs move on as they
 * always do. `itemOf` makes an item of a job that nobody holds.
 */
export function withArchivedHistory(
  queue: Archive,
  history: JobHistory,
  itemOf: (job: Job) => ItemOf<"job">,
): Archive {
  return {
    ...queue,
    holds: async (scope) => {
      if (await queue.holds(scope)) return true
      for await (const jobs of pagesOf(history, scope)) if (jobs.length > 0) return true
      return false
    },
    read: async (scope, sink) => {
      const ids = await readQueue(queue, scope, sink)
      for await (const jobs of pagesOf(history, scope)) {
        const left = jobs.filter(({ id }) => !ids.has(id))
        if (left.length > 0) await sink("job", left.map(itemOf))
      }
    },
  }
}

/** Answers the ids of its jobs, which count more than what the history has of them. */
async function readQueue(queue: Archive, scope: CallScope, sink: ItemSink): Promise<ReadonlySet<string>> {
  const ids = new Set<string>()
  await queue.read(scope, (kind, items) => {
    for (const { id } of items) ids.add(String(id))
    return sink(kind, items)
  })
  return ids
}

async function* pagesOf(history: JobHistory, scope: CallScope): AsyncGenerator<readonly Job[]> {
  for (let cursor: readonly string[] | undefined, more = true; more; more = cursor !== undefined) {
    requireLive(scope)
    const page = await history.list(scope, { statuses: [], full: true }, { size: PAGE, cursor })
    yield page.items
    cursor = page.next
  }
}
