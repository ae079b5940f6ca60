/** The RPCs of CacheService that do several things at once: batches, Execute, Pipeline and scripts. */
import { createHash } from "node:crypto"
import { fromJson, type MessageInitShape, toBinary } from "@bufbuild/protobuf"
import { ValueSchema } from "@bufbuild/protobuf/wkt"
import type { CacheEntry } from "../domain/cache/model.ts"
import type { DeleteOperation, Operation, Outcome, SetOperation } from "../domain/cache/operations.ts"
import { MAXIMUM_BATCH_BYTES, MAXIMUM_VALUE_BYTES, valueBytes } from "../domain/cache/size.ts"
import { DomainError, invalidField, limitExceeded } from "../domain/kernel/errors.ts"
import type { CallScope } from "../domain/kernel/scope.ts"
import type * as pb from "../gen/keelplane/v1/cache_service_pb.ts"
import { CacheOperationSchema } from "../gen/keelplane/v1/cache_service_pb.ts"
import type { CallContext } from "../rpc/handler.ts"
import { answers, fromError, fromOutcome } from "./cache-answers.ts"
import { orMiss } from "./cache-degraded.ts"
import { andThen, type CacheServiceDeps } from "./cache-deps.ts"
import { toOperation, toSetOf } from "./cache-requests.ts"
import { toEntryMessage } from "./cache-values.ts"

type BatchGetAnswer = MessageInitShape<typeof pb.CacheServiceBatchGetResponseSchema>

/** The handlers. */
export function cacheExecution(deps: CacheServiceDeps) {
  const { store, namespaces, miss } = deps
  return {
    batchGet(request: pb.CacheServiceBatchGetRequest, ctx: CallContext) {
      const namespace = namespaces.resolveFor(request.namespace, "value")
      const { keys } = request
      return orMiss<BatchGetAnswer>(
        miss,
        ctx,
        (scope) =>
          andThen(store.batchGet(scope, namespace, keys), (entries) => ({
            items: keys.map((key, index) => toItem(key, entries[index])),
          })),
        () => ({ items: keys.map((key) => toItem(key, undefined)), degraded: true }),
      )
    },
    batchSet(request: pb.CacheServiceBatchSetRequest, ctx: CallContext) {
      const operations: SetOperation[] = request.items.map((item, index) =>
        toSetOf(namespaces, request.namespace, item, undefined, `items[${index}].`),
      )
      checkSizes(operations, store.capabilities.maximumKeyBytes)
      return andThen(store.execute(ctx, operations, false), (outcomes) => ({
        results: resultsOf<SetOperation>(outcomes).map(answers.set),
      }))
    },
    batchDelete(request: pb.CacheServiceBatchDeleteRequest, ctx: CallContext) {
      const namespace = namespaces.resolve(request.namespace)
      const operations = request.keys.map((key): DeleteOperation => {
        return { kind: "delete", namespace, key, ifRevision: undefined }
      })
      return andThen(store.execute(ctx, operations, false), (outcomes) => ({
        results: resultsOf<DeleteOperation>(outcomes).map(answers.delete),
      }))
    },
    execute(request: pb.CacheServiceExecuteRequest, ctx: CallContext) {
      return request.atomic ? executeAll(deps, request, ctx) : executeEach(deps, request, ctx)
    },
    async *pipeline(messages: AsyncIterable<pb.CacheServicePipelineRequest>, ctx: CallContext) {
      for await (const message of messages) {
        yield { correlationId: message.correlationId, result: await runPiped(deps, message, ctx) }
      }
    },
    runScript(request: pb.RunScriptRequest, ctx: CallContext) {
      const { name, keys, args } = request
      const bytes = args.reduce((sum, argument) => sum + Buffer.byteLength(argument), 0)
      if (bytes > MAXIMUM_VALUE_BYTES) throw limitExceeded("args", bytes, MAXIMUM_VALUE_BYTES)
      const result = store.runScript(ctx, namespaces.resolve(request.namespace), { name, keys, args })
      return andThen(result, (json) => ({ result: fromJson(ValueSchema, json) }))
    },
  }
}

/** What a key takes beside its value on any engine; generous, so that a batch that passes cannot fail half-way. */
const KEY_BYTES = 2_048

function checkSizes(operations: readonly SetOperation[], maximumKeyBytes: number): void {
  let total = 0
  for (const [index, operation] of operations.entries()) {
    const bytes = valueBytes(operation)
    const maximum = Math.min(maximumKeyBytes, operation.namespace.capacityBytes) - KEY_BYTES
    if (bytes > maximum) throw limitExceeded(`items[${index}].value`, bytes, Math.max(0, maximum))
    total += bytes
  }
  if (total > MAXIMUM_BATCH_BYTES) throw limitExceeded("items", total, MAXIMUM_BATCH_BYTES)
}

function toItem(key: string, entry: CacheEntry | undefined) {
  return { key, found: entry !== undefined, entry: entry === undefined ? undefined : toEntryMessage(entry) }
}

/** The results of operations that were all checked before; raises the first failure there is all the same. */
function resultsOf<O extends SetOperation | DeleteOperation>(outcomes: readonly Outcome[]) {
  return outcomes.map((outcome) => {
    if (!outcome.ok) throw outcome.error
    return (outcome as Extract<Outcome<O>, { ok: true }>).result
  })
}

function executeAll(
  { store, namespaces }: CacheServiceDeps,
  request: pb.CacheServiceExecuteRequest,
  ctx: CallContext,
) {
  const operations = request.operations.map((message, index) => {
    try {
      return toOperation(namespaces, message)
    } catch (error) {
      throw error instanceof DomainError ? inside(`operations[${index}]`, error, index) : error
    }
  })
  const stranger = operations.findIndex(({ namespace }) => namespace !== operations[0]?.namespace)
  if (stranger >= 0) {
    const description = "differs from that of operations[0]; an atomic call has one namespace"
    throw invalidField(`operations[${stranger}].namespace`, description)
  }
  return andThen(store.execute(ctx, operations, true), (outcomes) => ({
    results: operations.map(({ kind }, index) => resultAt(kind, outcomes, index)),
  }))
}

/** Operations that name a wrong namespace fail by themselves; a malformed one fails the whole call before any has run. */
function executeEach(
  { store, namespaces }: CacheServiceDeps,
  request: pb.CacheServiceExecuteRequest,
  ctx: CallContext,
) {
  const operations: Operation[] = []
  const plan = request.operations.map((message, index) => {
    try {
      const operation = toOperation(namespaces, message)
      return { kind: operation.kind, at: operations.push(operation) - 1 }
    } catch (error) {
      if (!(error instanceof DomainError)) throw error
      if (error.violations.length > 0) throw inside(`operations[${index}]`, error, index)
      return error
    }
  })
  return andThen(store.execute(ctx, operations, false), (outcomes) => ({
    results: plan.map((step) =>
      step instanceof DomainError ? fromError(step) : resultAt(step.kind, outcomes, step.at),
    ),
  }))
}

function resultAt(kind: Operation["kind"], outcomes: readonly Outcome[], index: number) {
  const outcome = outcomes[index]
  if (outcome === undefined) throw new RangeError(`the store answered no outcome for operation ${index}`)
  return fromOutcome(kind, outcome)
}

async function runPiped(
  { store, namespaces }: CacheServiceDeps,
  message: pb.CacheServicePipelineRequest,
  ctx: CallContext,
) {
  try {
    if (message.operation === undefined) throw invalidField("operation", "is missing")
    const operation = toOperation(namespaces, message.operation)
    const [outcome] = await store.execute(scopeOf(message, message.operation, ctx), [operation], false)
    if (outcome === undefined) throw new RangeError("the store answered no outcome")
    return fromOutcome(operation.kind, outcome)
  } catch (error) {
    if (error instanceof DomainError) return fromError(error)
    throw error
  }
}

/** The call's scope with the message's own idempotency. */
function scopeOf(
  { requestId }: pb.CacheServicePipelineRequest,
  operation: pb.CacheOperation,
  ctx: CallContext,
): CallScope {
  if (requestId === "") return ctx
  return {
    tenant: ctx.tenant,
    actor: ctx.actor,
    deadlineMs: ctx.deadlineMs,
    trace: ctx.trace,
    get signal() {
      return ctx.signal
    },
    idempotency: {
      method: ctx.method,
      requestId,
      bodyHash: createHash("sha256").update(toBinary(CacheOperationSchema, operation)).digest(),
    },
  }
}

/** The same failure, with the place of the operation before its fields. */
function inside(path: string, error: DomainError, index: number): DomainError {
  const { field } = error.metadata
  return new DomainError(error.reason, `${path}.${error.message}`, {
    metadata: {
      ...error.metadata,
      ...(field === undefined ? {} : { field: `${path}.${field}` }),
      operation: String(index),
    },
    violations: error.violations.map((violation) => ({ ...violation, field: `${path}.${violation.field}` })),
    cause: error,
  })
}
