/** What a vector store cannot do for collections that live in it alone, and the registry does in its place. */
import type { Operations } from "../kernel/operations.ts"
import type { CallScope } from "../kernel/scope.ts"

/** Revisions, and the answers of requests that may be repeated. */
export interface DirectLedger {
  /** As many new revisions, rising. NOT_FOUND where the collection with this handle is gone. */
  revisions(
    scope: CallScope,
    collection: { readonly id: string; readonly ref: string },
    count: number,
  ): Promise<readonly bigint[]>
  /**
   * What was kept under `step` for the scope's request, which has idempotency; undefined where nothing was. REQUEST_ID_REUSED
   * for another body.
   */
  recall<T>(scope: CallScope, step: string): Promise<{ readonly value: T } | undefined>
  /** Keeps a structured-cloneable value under `step` and answers it, or what was kept before. REQUEST_ID_REUSED. */
  keep<T>(scope: CallScope, step: string, value: T): Promise<T>
}

/** What the methods of {@link DirectLedger} do. */
export const DIRECT_LEDGER_OPERATIONS: Operations<DirectLedger> = {
  revisions: "write",
  recall: "read",
  keep: "write",
}
