/** Ended jobs as JSON: what lists show, and what is read only where somebody asks for it. */
import type { EndedJob } from "../../domain/event/job-history.ts"
import type { JobPayload } from "../../domain/event/job-model.ts"
import type { JsonObject } from "../../domain/kernel/json.ts"

type StoredPayload =
  | { readonly kind: "json"; readonly value: JsonObject }
  | { readonly kind: "binary"; readonly bytes: string; readonly contentType: string }

type Bulk = Pick<EndedJob, "payload" | "result" | "history">
type Head = Omit<EndedJob, keyof Bulk>

/** Everything but payload, result and history. */
export function headText({ payload: _, result: __, history: ___, revision, ...head }: EndedJob): string {
  return JSON.stringify({ ...head, revision: String(revision) })
}

/** Payload, result and history. */
export function bulkText({ payload, result, history }: EndedJob): string {
  return JSON.stringify({ payload: storedPayload(payload), result: storedPayload(result), history })
}

function storedPayload(payload: JobPayload | undefined): StoredPayload | undefined {
  if (payload?.kind !== "binary") return payload
  return { ...payload, bytes: Buffer.from(payload.bytes).toString("base64") }
}

/** The job in a row; without payload, result and history where there is no `bulk`. */
export function jobOf(head: string, bulk?: string): EndedJob {
  // Only this file writes these.
  const { revision, ...rest } = JSON.parse(head) as Omit<Head, "revision"> & { readonly revision: string }
  return { ...rest, ...bulkOf(bulk), revision: BigInt(revision) }
}

function bulkOf(bulk: string | undefined): Bulk {
  if (bulk === undefined) return { history: [] }
  const stored = JSON.parse(bulk) as {
    readonly payload?: StoredPayload
    readonly result?: StoredPayload
    readonly history: Bulk["history"]
  }
  const payload = payloadOf(stored.payload)
  const result = payloadOf(stored.result)
  return {
    ...(payload !== undefined && { payload }),
    ...(result !== undefined && { result }),
    history: stored.history,
  }
}

function payloadOf(stored: StoredPayload | undefined): JobPayload | undefined {
  if (stored?.kind !== "binary") return stored
  return { ...stored, bytes: new Uint8Array(Buffer.from(stored.bytes, "base64")) }
}
