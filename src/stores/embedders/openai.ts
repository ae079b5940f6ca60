/** An embedder behind an OpenAI-compatible `/embeddings` endpoint. */

import { readFile } from "node:fs/promises"
import { DomainError } from "../../domain/kernel/errors.ts"
import { pause } from "../../domain/kernel/pause.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { Embedder } from "../../domain/memory/ports.ts"

/** How {@link createOpenAiEmbedder} reaches its endpoint. */
export interface OpenAiEmbedderOptions {
  /** What collections call it. */
  readonly name: string
  /** Base URL, e.g. `https://api.example.com/v1`; `/embeddings` is appended. */
  readonly url: string
  readonly model: string
  /** Components that every vector must have. */
  readonly dimension: number
  /** Whether to send `dimensions`, which shortens the vectors of models that can. Default false. */
  readonly sendDimensions?: boolean
  /** File with the API key, read for every call so that a rotated key takes effect. Undefined: no key is sent. */
  readonly keyFile?: string | undefined
  /** Texts per request. Default 64. */
  readonly batchSize?: number
  /** Requests under way at once per call. Default 4. */
  readonly concurrency?: number
  /** Longest that one request may take, in milliseconds. Default 30000. The call's deadline counts too. */
  readonly timeoutMs?: number
  /** Times that a request is repeated after 429, 5xx or a broken connection. Default 3. */
  readonly retries?: number
}

const DEFAULT_BATCH = 64
const DEFAULT_CONCURRENCY = 4
const DEFAULT_TIMEOUT_MS = 30_000
const DEFAULT_RETRIES = 3
const FIRST_WAIT_MS = 200
const LONGEST_WAIT_MS = 10_000
/** A float takes some 25 characters as JSON; more than this per text is no answer. */
const MAX_ANSWER_BYTES_PER_COMPONENT = 64

type Complete = Required<Omit<OpenAiEmbedderOptions, "keyFile">> & Pick<OpenAiEmbedderOptions, "keyFile">

/** An embedder that asks `options.url`. */
export function createOpenAiEmbedder(options: OpenAiEmbedderOptions): Embedder {
  const complete: Complete = {
    ...options,
    sendDimensions: options.sendDimensions ?? false,
    batchSize: options.batchSize ?? DEFAULT_BATCH,
    concurrency: options.concurrency ?? DEFAULT_CONCURRENCY,
    timeoutMs: options.timeoutMs ?? DEFAULT_TIMEOUT_MS,
    retries: options.retries ?? DEFAULT_RETRIES,
  }
  return {
    name: options.name,
    dimension: options.dimension,
    embed: (scope, texts) => embedAll(complete, scope, texts),
  }
}

async function embedAll(
  options: Complete,
  scope: CallScope,
  texts: readonly string[],
): Promise<readonly Float32Array[]> {
  const key = await readKey(options)
  const results = new Array<Float32Array>(texts.length)
  let next = 0
  const work = async (): Promise<void> => {
    while (next < texts.length) {
      const from = next
      next += options.batchSize
      const vectors = await embedBatch(options, scope, key, texts.slice(from, from + options.batchSize))
      for (const [i, vector] of vectors.entries()) results[from + i] = vector
    }
  }
  try {
    await Promise.all(Array.from({ length: options.concurrency }, work))
  } catch (error) {
    // The other batches need not be asked for any more.
    next = texts.length
    throw error
  }
  return results
}

async function readKey({ keyFile, name }: Complete): Promise<string | undefined> {
  if (keyFile === undefined) return undefined
  try {
    return (await readFile(keyFile, "utf8")).trim()
  } catch (cause) {
    throw failure("STORE_AUTH", name, "its key file cannot be read", { cause })
  }
}

async function embedBatch(
  options: Complete,
  scope: CallScope,
  key: string | undefined,
  texts: readonly string[],
): Promise<readonly Float32Array[]> {
  for (let attempt = 0; ; attempt++) {
    throwIfEnded(scope)
    const outcome = await ask(options, scope, key, texts)
    if (outcome.ok) return outcome.vectors
    const { error, waitMs } = outcome
    throwIfEnded(scope)
    if (waitMs === undefined || attempt >= options.retries) throw error
    const wait = Math.max(waitMs, Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** attempt))
    // Waiting past the deadline would only turn a clear answer into an unclear one.
    if (wait > LONGEST_WAIT_MS || Date.now() + wait >= scope.deadlineMs) throw error
    await pause(wait, scope.signal)
  }
}

type Outcome =
  | { readonly ok: true; readonly vectors: readonly Float32Array[] }
  /** `waitMs` undefined: repeating is of no use. */
  | { readonly ok: false; readonly error: DomainError; readonly waitMs: number | undefined }

async function ask(
  options: Complete,
  scope: CallScope,
  key: string | undefined,
  texts: readonly string[],
): Promise<Outcome> {
  const timeLeft = Math.min(options.timeoutMs, scope.deadlineMs - Date.now())
  const signal = AbortSignal.any([scope.signal, AbortSignal.timeout(Math.max(1, Math.ceil(timeLeft)))])
  try {
    const response = await fetch(`${options.url.replace(/\/+$/, "")}/embeddings`, {
      method: "POST",
      signal,
      redirect: "error",
      headers: {
        "content-type": "application/json",
        ...(key === undefined ? {} : { authorization: `Bearer ${key}` }),
      },
      body: JSON.stringify({
        model: options.model,
        input: texts,
        encoding_format: "float",
        ...(options.sendDimensions ? { dimensions: options.dimension } : {}),
      }),
    })
    if (!response.ok) {
      await response.body?.cancel()
      return refused(options.name, response)
    }
    return {
      ok: true,
      vectors: vectorsIn(options, await readBody(options, response, texts.length), texts.length),
    }
  } catch (error) {
    if (error instanceof DomainError) return { ok: false, error, waitMs: undefined }
    // fetch's own error names address and cause, never the body.
    const unavailable = failure("STORE_UNAVAILABLE", options.name, "it cannot be reached or took too long", {
      retryDelayMs: FIRST_WAIT_MS,
      cause: error,
    })
    return { ok: false, error: unavailable, waitMs: 0 }
  }
}

function refused(name: string, response: Response): Outcome {
  const { status } = response
  if (status === 401 || status === 403) {
    return {
      ok: false,
      error: failure("STORE_AUTH", name, `it refused the key (${status})`),
      waitMs: undefined,
    }
  }
  if (status === 429 || status >= 500) {
    const waitMs = retryAfterMs(response.headers.get("retry-after"))
    const error = failure(
      status === 429 ? "OVERLOADED" : "STORE_UNAVAILABLE",
      name,
      `it answered with status ${status}`,
      { retryDelayMs: Math.max(waitMs, FIRST_WAIT_MS) },
    )
    return { ok: false, error, waitMs }
  }
  const error = new DomainError(
    "FAILED_PRECONDITION",
    `embedder "${name}" refused the request with status ${status}; check its URL, model and limits`,
    { metadata: { resource: "embedder", name, state: `status-${status}` } },
  )
  return { ok: false, error, waitMs: undefined }
}

/** Seconds or a date, as RFC 9110 allows; 0 where absent. */
function retryAfterMs(header: string | null): number {
  if (header === null) return 0
  if (/^\d+$/.test(header.trim())) return Number(header) * 1000
  const date = Date.parse(header)
  return Number.isNaN(date) ? 0 : Math.max(0, date - Date.now())
}

async function readBody(options: Complete, response: Response, count: number): Promise<unknown> {
  const limit = 65_536 + count * options.dimension * MAX_ANSWER_BYTES_PER_COMPONENT
  const parts: Uint8Array[] = []
  let bytes = 0
  for await (const part of response.body ?? []) {
    bytes += part.byteLength
    if (bytes > limit) throw malformed(options.name, "its answer is too large")
    parts.push(part)
  }
  try {
    return JSON.parse(Buffer.concat(parts).toString("utf8"))
  } catch {
    // The parser's message would quote the answer.
    throw malformed(options.name, "its answer is not JSON")
  }
}

function vectorsIn(options: Complete, body: unknown, count: number): readonly Float32Array[] {
  const data = isRecord(body) ? body.data : undefined
  if (!Array.isArray(data) || data.length !== count) {
    throw malformed(options.name, "its answer has not one vector per text")
  }
  const vectors = new Array<Float32Array | undefined>(count)
  data.forEach((item: unknown, position) => {
    if (!isRecord(item) || !Array.isArray(item.embedding))
      throw malformed(options.name, "a vector is missing")
    const index = typeof item.index === "number" ? item.index : position
    if (item.embedding.length !== options.dimension) {
      throw new DomainError(
        "FAILED_PRECONDITION",
        `embedder "${options.name}" answers ${item.embedding.length} components, its configuration says ${options.dimension}`,
        { metadata: { resource: "embedder", name: options.name, state: "dimension-mismatch" } },
      )
    }
    vectors[index] = Float32Array.from(item.embedding as number[])
  })
  return vectors.map((vector) => {
    if (vector === undefined || !vector.every(Number.isFinite)) {
      throw malformed(options.name, "a vector is missing or has components that are no numbers")
    }
    return vector
  })
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null
}

function malformed(name: string, what: string): DomainError {
  return failure("STORE_UNAVAILABLE", name, what, { retryDelayMs: LONGEST_WAIT_MS })
}

function failure(
  reason: "STORE_UNAVAILABLE" | "STORE_AUTH" | "OVERLOADED",
  name: string,
  what: string,
  options: { readonly retryDelayMs?: number; readonly cause?: unknown } = {},
): DomainError {
  return new DomainError(reason, `embedder "${name}" failed: ${what}; nothing was done`, {
    metadata: { store: `embedder:${name}` },
    ...options,
  })
}

function throwIfEnded(scope: CallScope): void {
  if (scope.deadlineMs <= Date.now()) {
    throw new DomainError("DEADLINE_EXCEEDED", "the deadline passed before the embedder answered")
  }
  if (!scope.signal.aborted) return
  const { reason } = scope.signal
  throw reason instanceof DomainError ? reason : new DomainError("CANCELLED", "the call was cancelled")
}
