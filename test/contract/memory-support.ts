/** What the Memory suites share. */
import assert from "node:assert/strict"
import { createHash, randomUUID } from "node:crypto"
import { DomainError, type Reason } from "../../src/domain/kernel/errors.ts"
import { type Filter, parseFilter } from "../../src/domain/kernel/filter/index.ts"
import { type CallScope, systemScope, type TenantId } from "../../src/domain/kernel/scope.ts"
import { createCollection } from "../../src/domain/memory/create-collection.ts"
import { KnownCollections } from "../../src/domain/memory/known-collections.ts"
import {
  ALL_PARTS,
  type Collection,
  type CollectionDraft,
  type RecordDraft,
} from "../../src/domain/memory/model.ts"
import { type Embedder, type MemoryStore, RECORD_FIELDS } from "../../src/domain/memory/ports.ts"
import type { SearchDeps, SearchQuery } from "../../src/domain/memory/search-records.ts"
import { type UpsertDeps, upsertRecords } from "../../src/domain/memory/upsert-records.ts"

/** An open store and what the suite needs to move it. */
export interface MemoryHarness {
  readonly store: MemoryStore
  /** The clock the store reads; the suite turns it. */
  readonly clock: { nowMs: number; now(): number }
  freshTenant(): TenantId
  /** Closes the store under test for good; the suite's last act. */
  close(): Promise<void>
}

/** Two numbers out of a text: how often it has an `a` and a `b`, and one more so that it is never zero. */
export const letters: Embedder = {
  name: "letters",
  dimension: 3,
  embed: (_scope, texts) =>
    Promise.resolve(
      texts.map((text) => Float32Array.of(text.split("a").length - 1, text.split("b").length - 1, 0.1)),
    ),
}

/** What harnesses' collections were when they were searched last, as in a daemon. */
const knowns = new WeakMap<MemoryHarness, KnownCollections>()

/** What use cases work with, over a harness. */
export function depsOf(harness: MemoryHarness): UpsertDeps & SearchDeps {
  const known = knowns.get(harness) ?? new KnownCollections()
  knowns.set(harness, known)
  return {
    known,
    store: harness.store,
    embedders: new Map([[letters.name, letters]]),
    clock: harness.clock,
    newId: randomUUID,
  }
}

/** A collection of two dimensions, made in a fresh tenant. */
export async function freshCollection(
  harness: MemoryHarness,
  draft: Partial<CollectionDraft> = {},
): Promise<{ readonly scope: CallScope; readonly collection: Collection }> {
  const scope = systemScope(harness.freshTenant())
  return { scope, collection: await makeCollection(harness, scope, draft) }
}

/** A collection of two dimensions. */
export function makeCollection(
  harness: MemoryHarness,
  scope: CallScope,
  draft: Partial<CollectionDraft> = {},
): Promise<Collection> {
  return createCollection(depsOf(harness), scope, {
    id: "c",
    description: "",
    labels: {},
    dimension: 2,
    metric: "COSINE",
    quantization: "NONE",
    index: { kind: "AUTO" },
    embedder: "",
    defaultTtlMs: undefined,
    ...draft,
  })
}

/** A record to write. */
export function record(id: string, vector?: readonly number[], more: Partial<RecordDraft> = {}): RecordDraft {
  return {
    id,
    text: "",
    vector: vector === undefined ? undefined : Float32Array.from(vector),
    metadata: {},
    expiration: undefined,
    ifRevisionMatch: undefined,
    ...more,
  }
}

/** Writes records to the collection `c`. */
export function put(harness: MemoryHarness, scope: CallScope, ...records: readonly RecordDraft[]) {
  return upsertRecords(depsOf(harness), scope, "c", records)
}

/** A search with defaults. */
export function query(more: Partial<SearchQuery>): SearchQuery {
  return {
    target: { kind: "vector", vector: Float32Array.of(1, 0) },
    keywords: "",
    k: 10,
    offset: 0,
    minScore: undefined,
    filter: undefined,
    mode: "AUTO",
    fusion: { kind: "rrf", k: 60 },
    recencyHalfLifeMs: undefined,
    diversity: undefined,
    candidates: 0,
    efSearch: 0,
    exact: false,
    parts: ALL_PARTS,
    ...more,
  }
}

/** A filter over records. */
export function filter(text: string): Filter {
  const parsed = parseFilter(text, RECORD_FIELDS)
  assert.ok(parsed !== undefined)
  return parsed
}

/** The scope of a repeatable call. */
export function repeatable(scope: CallScope, requestId: string, body = ""): CallScope {
  const bodyHash = createHash("sha256").update(body).digest()
  return { ...scope, idempotency: { method: "test/Memory", requestId, bodyHash } }
}

/** Asserts that `work` fails for `reason`. */
export async function rejects(work: Promise<unknown>, reason: Reason): Promise<DomainError> {
  try {
    await work
  } catch (error) {
    assert.ok(error instanceof DomainError, String(error))
    assert.equal(error.reason, reason, error.message)
    return error
  }
  assert.fail(`did not fail with ${reason}`)
}

/** All that a stream yields. */
export async function collect<T>(stream: AsyncIterable<T>): Promise<T[]> {
  const items: T[] = []
  for await (const item of stream) items.push(item)
  return items
}
