/** The embedders; the remote one against a real HTTP server on loopback. */
import assert from "node:assert/strict"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { createServer, type IncomingHttpHeaders, type Server } from "node:http"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { after, before, beforeEach, describe, it } from "node:test"
import { DomainError, type Reason } from "../../src/domain/kernel/errors.ts"
import { systemScope } from "../../src/domain/kernel/scope.ts"
import { cosine } from "../../src/domain/memory/vectors.ts"
import {
  createLexicalEmbedder,
  createOpenAiEmbedder,
  LEXICAL_EMBEDDER,
  type OpenAiEmbedderOptions,
} from "../../src/stores/embedders/index.ts"

const scope = systemScope()

describe("the built-in lexical embedder", () => {
  const embedder = createLexicalEmbedder()
  const one = async (text: string): Promise<Float32Array> => {
    const [vector] = await embedder.embed(scope, [text])
    assert.ok(vector !== undefined)
    return vector
  }

  it("says what it is", () => {
    assert.equal(embedder.name, LEXICAL_EMBEDDER)
    assert.equal(embedder.dimension, 384)
  })

  it("makes unit vectors out of anything, the same every time", async () => {
    for (const text of ["hello world", "", "!!!", " ", "\u{1f600}", "日本語", "x".repeat(100_000)]) {
      const vector = await one(text)
      assert.equal(vector.length, 384)
      assert.ok(Math.abs(Math.hypot(...vector) - 1) < 1e-5, JSON.stringify(text.slice(0, 20)))
      assert.deepEqual(await one(text), vector)
    }
  })

  it("puts texts with common words closer than others", async () => {
    const question = await one("how do I configure the connection pool?")
    const right = await one("The connection pool is configured by pool.max and pool.min.")
    const wrong = await one("Bananas are yellow and grow in warm countries.")
    assert.ok(cosine(question, right) > cosine(question, wrong) + 0.1)
  })
})

interface Asked {
  readonly path: string
  readonly headers: IncomingHttpHeaders
  readonly body: { readonly model: string; readonly input: readonly string[]; readonly dimensions?: number }
}

type Answer = { readonly status: number; readonly headers?: Record<string, string>; readonly body: unknown }

describe("the OpenAI-compatible embedder", () => {
  let server: Server
  let folder: string
  let url: string
  let asked: Asked[] = []
  let answer: (request: Asked, n: number) => Answer | undefined

  const good = ({ body }: Asked): Answer => ({
    status: 200,
    // Turned round: the index says which text a vector belongs to.
    body: {
      data: body.input.map((text, index) => ({ index, embedding: [text.length, index] })).toReversed(),
    },
  })

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "keelplane-embedder-"))
    server = createServer((request, response) => {
      const chunks: Buffer[] = []
      request.on("data", (chunk: Buffer) => chunks.push(chunk))
      request.on("end", () => {
        const body = JSON.parse(Buffer.concat(chunks).toString()) as Asked["body"]
        const call = { path: request.url ?? "", headers: request.headers, body }
        asked.push(call)
        const reply = answer(call, asked.length)
        // Undefined: the connection breaks.
        if (reply === undefined) return void request.socket.destroy()
        response.writeHead(reply.status, { "content-type": "application/json", ...reply.headers })
        response.end(typeof reply.body === "string" ? reply.body : JSON.stringify(reply.body))
      })
    })
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
    const address = server.address()
    assert.ok(typeof address === "object" && address !== null)
    url = `http://127.0.0.1:${address.port}/v1/`
  })
  beforeEach(() => {
    asked = []
    answer = good
  })
  after(async () => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
    await rm(folder, { recursive: true })
  })

  const embedder = (more: Partial<OpenAiEmbedderOptions> = {}) =>
    createOpenAiEmbedder({ name: "remote", url, model: "m-1", dimension: 2, ...more })

  const rejects = async (work: Promise<unknown>, reason: Reason): Promise<DomainError> => {
    try {
      await work
    } catch (error) {
      assert.ok(error instanceof DomainError, String(error))
      assert.equal(error.reason, reason, error.message)
      assert.doesNotMatch(`${error.message} ${JSON.stringify(error.metadata)}`, /secret/)
      return error
    }
    assert.fail(`did not fail with ${reason}`)
  }

  it("asks in batches and answers in order", async () => {
    const texts = ["a", "bb", "ccc", "dddd", "eeeee"]
    const vectors = await embedder({ batchSize: 2 }).embed(scope, texts)
    assert.deepEqual(
      vectors.map((vector) => vector[0]),
      [1, 2, 3, 4, 5],
    )
    assert.deepEqual(asked.map(({ body }) => body.input.length).toSorted(), [1, 2, 2])
    assert.equal(asked[0]?.path, "/v1/embeddings")
    assert.equal(asked[0]?.body.model, "m-1")
    assert.equal(asked[0]?.body.dimensions, undefined)
    assert.equal(asked[0]?.headers.authorization, undefined)
  })

  it("sends the key that is in the file now, and the dimension where it shall", async () => {
    const keyFile = join(folder, "key")
    await rejects(embedder({ keyFile }).embed(scope, ["a"]), "STORE_AUTH")
    const remote = embedder({ keyFile, sendDimensions: true })
    for (const key of ["first", "second"]) {
      await writeFile(keyFile, `${key}\n`)
      await remote.embed(scope, ["a"])
      assert.equal(asked.at(-1)?.headers.authorization, `Bearer ${key}`)
    }
    assert.equal(asked[0]?.body.dimensions, 2)
  })

  it("repeats after 429, 5xx and a broken connection", async () => {
    answer = (call, n) => {
      if (n === 1) return { status: 429, headers: { "retry-after": "0" }, body: "secret" }
      if (n === 2) return { status: 503, body: "secret" }
      return n === 3 ? undefined : good(call)
    }
    const [vector] = await embedder().embed(scope, ["abc"])
    assert.deepEqual(vector, Float32Array.of(3, 0))
    assert.equal(asked.length, 4)
  })

  it("gives up after its retries, with what a caller may wait", async () => {
    answer = () => ({ status: 500, body: "secret" })
    const error = await rejects(embedder({ retries: 1 }).embed(scope, ["secret"]), "STORE_UNAVAILABLE")
    assert.deepEqual(error.metadata, { store: "embedder:remote" })
    assert.ok((error.retryDelayMs ?? 0) > 0)
    assert.equal(asked.length, 2)
  })

  it("does not wait past the deadline for a Retry-After", async () => {
    answer = () => ({ status: 429, headers: { "retry-after": "9" }, body: "" })
    const hurried = { ...scope, deadlineMs: Date.now() + 5_000 }
    const error = await rejects(embedder().embed(hurried, ["a"]), "OVERLOADED")
    assert.equal(error.retryDelayMs, 9_000)
    assert.equal(asked.length, 1)
  })

  it("does not repeat what cannot get better", async () => {
    const two = (embedding: unknown) => ({ status: 200, body: { data: [{ index: 0, embedding }] } })
    const cases: readonly (readonly [Answer, Reason])[] = [
      [{ status: 401, body: "secret" }, "STORE_AUTH"],
      [{ status: 400, body: "secret" }, "FAILED_PRECONDITION"],
      [two([1, 2, 3]), "FAILED_PRECONDITION"],
      [two([1, "secret"]), "STORE_UNAVAILABLE"],
      [two(undefined), "STORE_UNAVAILABLE"],
      [{ status: 200, body: { data: [] } }, "STORE_UNAVAILABLE"],
      [{ status: 200, body: "secret" }, "STORE_UNAVAILABLE"],
      [{ status: 200, body: `"${"secret".repeat(20_000)}"` }, "STORE_UNAVAILABLE"],
      [{ status: 307, headers: { location: "http://127.0.0.1:1/" }, body: "" }, "STORE_UNAVAILABLE"],
    ]
    for (const [reply, reason] of cases) {
      answer = () => reply
      await rejects(embedder({ retries: 0 }).embed(scope, ["secret"]), reason)
    }
  })

  it("ends with its caller", async () => {
    await rejects(embedder().embed({ ...scope, deadlineMs: Date.now() - 1 }, ["a"]), "DEADLINE_EXCEEDED")
    const controller = new AbortController()
    answer = () => {
      controller.abort(new DomainError("CANCELLED", "the caller left"))
      return { status: 503, body: "" }
    }
    await rejects(embedder().embed({ ...scope, signal: controller.signal }, ["a"]), "CANCELLED")
    assert.equal(asked.length, 1)
  })
})
