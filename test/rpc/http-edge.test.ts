/** What the HTTP/1.1 edge answers to requests that no generated client sends: those of curl, of a browser, of a broken program. */
import assert from "node:assert/strict"
import { request as httpRequest, type IncomingHttpHeaders } from "node:http"
import { describe, it } from "node:test"
import { fromBinary } from "@bufbuild/protobuf"
import { silentLogger } from "../../src/domain/kernel/logger.ts"
import { ErrorInfoSchema } from "../../src/gen/google/rpc/error_details_pb.ts"
import { StatusSchema } from "../../src/gen/google/rpc/status_pb.ts"
import { DEFAULT_LIMITS } from "../../src/rpc/limits.ts"
import { explained } from "../../src/rpc/transports/connect-faults.ts"
import { type Edge, open } from "./support/harness.ts"
import { ProbeDesc } from "./support/probe.ts"

const SERVICE = "/keelplane.probe.v1.ProbeService"

interface Sent {
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string | Buffer
  readonly socketPath?: string
}

interface Answer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: Buffer
}

interface JsonError {
  readonly code: string
  readonly message: string
  readonly details: readonly { readonly type: string; readonly value: string }[]
}

function send(edge: Edge, path: string, { method, headers, body, socketPath }: Sent = {}): Promise<Answer> {
  const where = socketPath === undefined ? edge.tcp : { socketPath }
  return new Promise((resolve, reject) => {
    const sent = httpRequest(
      { ...where, path, method: method ?? "GET", headers: { ...headers } },
      (answer) => {
        const chunks: Buffer[] = []
        answer.on("data", (chunk: Buffer) => chunks.push(chunk))
        answer.on("error", reject)
        answer.on("end", () =>
          resolve({ status: answer.statusCode ?? 0, headers: answer.headers, body: Buffer.concat(chunks) }),
        )
      },
    )
    sent.on("error", reject)
    sent.end(body)
  })
}

function post(edge: Edge, rpc: string, type: string, body: string | Buffer, more: object = {}) {
  const headers = { "content-type": type, ...more }
  return send(edge, `${SERVICE}/${rpc}`, { method: "POST", headers, body })
}

function reasonOf(error: JsonError): string | undefined {
  const info = error.details?.find((each) => each.type === "google.rpc.ErrorInfo")
  return info && fromBinary(ErrorInfoSchema, Buffer.from(info.value, "base64")).reason
}

function jsonError({ headers, body }: Answer): JsonError & { readonly reason: string | undefined } {
  assert.equal(headers["content-type"], "application/json")
  const error = JSON.parse(body.toString()) as JsonError
  return { ...error, reason: reasonOf(error) }
}

/** The error of a Connect stream's last envelope. */
function endError(body: Buffer): JsonError & { readonly reason: string | undefined } {
  assert.equal(body[0], 2)
  const { error } = JSON.parse(body.subarray(5).toString()) as { error: JsonError }
  return { ...error, reason: reasonOf(error) }
}

function webTrailer(body: Buffer) {
  assert.equal(body[0], 0x80)
  const trailer = new Headers(
    body
      .subarray(5)
      .toString()
      .trim()
      .split("\r\n")
      .map((line): [string, string] => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1)]),
  )
  const status = fromBinary(StatusSchema, Buffer.from(trailer.get("grpc-status-details-bin") ?? "", "base64"))
  const info = status.details[0]
  return {
    status: trailer.get("grpc-status"),
    reason: info && fromBinary(ErrorInfoSchema, info.value).reason,
  }
}

function envelope(message: string): Buffer {
  const prefix = Buffer.alloc(5)
  prefix.writeUInt32BE(Buffer.byteLength(message), 1)
  return Buffer.concat([prefix, Buffer.from(message)])
}

describe("the HTTP/1.1 edge", { timeout: 60_000 }, () => {
  it("blames the caller for a GET whose message cannot be read", async () => {
    await using edge = await open("json tcp")
    const queries = [
      "encoding=json&base64=1&message=!!!",
      "encoding=proto&base64=1&message=!!!!",
      "encoding=proto&base64=1&message=_w",
      "encoding=json&message={",
      "encoding=json",
    ]
    for (const query of queries) {
      const answer = await send(edge, `${SERVICE}/Echo?connect=v1&${query}`)
      assert.equal(answer.status, 400, query)
      const { code, reason } = jsonError(answer)
      assert.deepEqual({ code, reason }, { code: "invalid_argument", reason: "MALFORMED_MESSAGE" }, query)
    }
    const badHost = await send(edge, `${SERVICE}/Echo?connect=v1&encoding=json&message={}`, {
      socketPath: edge.socketFile,
      headers: { host: "a b" },
    })
    assert.equal(badHost.status, 400)
    assert.equal(jsonError(badHost).reason, "MALFORMED_MESSAGE")
    assert.deepEqual(edge.logged, [])
    const fine = await send(edge, `${SERVICE}/Echo?connect=v1&encoding=json&base64=1&message=e30`)
    assert.equal(fine.status, 200)
  })

  it("says which content type to send", async () => {
    await using edge = await open("json tcp")
    const cases: [rpc: string, type: string, hint: RegExp][] = [
      ["Echo", "application/x-www-form-urlencoded", /send content-type: application\/json/],
      ["Echo", "application/grpc", /HTTP\/2/],
      ["Count", "application/json", /this RPC streams: .*application\/connect\+json.*gRPC/],
    ]
    for (const [rpc, type, hint] of cases) {
      const answer = await post(edge, rpc, type, "{}")
      assert.equal(answer.status, 415, type)
      const { code, message, reason } = jsonError(answer)
      assert.match(message, hint)
      assert.deepEqual({ code, reason }, { code: "invalid_argument", reason: "INVALID_FIELD" })
    }
    const bare = await send(edge, `${SERVICE}/Echo`)
    assert.equal(bare.status, 415)
    assert.match(jsonError(bare).message, /encoding=json&message=/)
  })

  it("says which method to use", async () => {
    await using edge = await open("json tcp")
    const cases: [method: string, rpc: string, allow: string, hint: RegExp][] = [
      ["GET", "Rule", "POST", /not a mere read: use POST/],
      ["GET", "Count", "POST", /streams: use POST/],
      ["PUT", "Echo", "POST, GET", /PUT is not served: use POST/],
    ]
    for (const [method, rpc, allow, hint] of cases) {
      const headers = { "content-type": "application/json" }
      const answer = await send(edge, `${SERVICE}/${rpc}`, { method, headers })
      assert.equal(answer.status, 405, `${method} ${rpc}`)
      assert.equal(answer.headers.allow, allow)
      const { message, reason } = jsonError(answer)
      assert.match(message, hint)
      assert.equal(reason, "UNIMPLEMENTED")
    }
    const both = await post(edge, "Chat", "application/connect+json", envelope("{}"))
    assert.equal(both.status, 505)
    assert.match(jsonError(both).message, /gRPC/)
  })

  it("gives broken frames of a Connect stream their reason", async () => {
    await using edge = await open("json tcp")
    const broken = [
      "x",
      "",
      envelope('{"count":1}').subarray(0, 9),
      envelope("{"),
      Buffer.from([1, 0, 0, 0, 1, 0]),
    ]
    for (const body of broken) {
      for (const rpc of ["Count", "Collect"]) {
        // No message at all is a request stream like any other.
        if (rpc === "Collect" && body === "") continue
        const answer = await post(edge, rpc, "application/connect+json", body)
        assert.equal(answer.status, 200)
        const { code, reason } = endError(answer.body)
        assert.deepEqual({ code, reason }, { code: "invalid_argument", reason: "MALFORMED_MESSAGE" }, rpc)
      }
    }
    assert.deepEqual(edge.logged, [])
    const fine = await post(edge, "Count", "application/connect+json", envelope('{"count":1}'))
    assert.equal(fine.body[0], 0)
  })

  it("gives broken frames of gRPC-Web their reason", async () => {
    await using edge = await open("json tcp")
    for (const [rpc, body] of [
      ["Echo", "x"],
      ["Echo", ""],
      ["Count", "x"],
      ["Collect", "x"],
    ] as const) {
      const answer = await post(edge, rpc, "application/grpc-web+proto", body)
      assert.deepEqual(
        webTrailer(answer.body),
        { status: "3", reason: "MALFORMED_MESSAGE" },
        `${rpc} ${body}`,
      )
    }
  })

  it("keeps the reasons that calls end with in either stream format", async () => {
    await using edge = await open("json tcp")
    const body = envelope('{"act":"then-fail"}')
    const connect = await post(edge, "Count", "application/connect+json", body)
    assert.equal(endError(connect.body).reason, "REVISION_MISMATCH")
    const web = await post(edge, "Count", "application/grpc-web+json", body)
    assert.deepEqual(webTrailer(web.body), { status: "10", reason: "REVISION_MISMATCH" })
  })

  it("says that it takes no compressed requests", async () => {
    await using edge = await open("json tcp")
    const unary = await post(edge, "Echo", "application/json", "{}", { "content-encoding": "gzip" })
    assert.equal(unary.status, 501)
    assert.equal(unary.headers["accept-encoding"], "identity")
    const stream = await post(edge, "Count", "application/connect+json", envelope("{}"), {
      "connect-content-encoding": "gzip",
    })
    for (const { message, reason } of [jsonError(unary), endError(stream.body)]) {
      assert.match(message, /without compression/)
      assert.equal(reason, "UNIMPLEMENTED")
    }
  })
})

describe("a failure that connect-node answers by itself", () => {
  it("is logged where it is not the caller's", async () => {
    const logged: unknown[] = []
    const method = ProbeDesc.method.echo
    assert.ok(method)
    const scope = {
      method: "probe/Echo",
      typeName: method.input.typeName,
      limits: DEFAULT_LIMITS,
      logger: { ...silentLogger, error: (fields: unknown) => logged.push(fields) },
    }
    const result = {
      status: 500,
      header: new Headers({ "content-type": "application/json" }),
      body: (async function* () {
        yield Buffer.from('{"code":"internal","message":"serialize binary: field x"}')
      })(),
    }
    const answer = await explained(result, {} as never, {} as never, scope)
    const chunks: Uint8Array[] = []
    for await (const chunk of answer.body ?? []) chunks.push(chunk)
    const error = JSON.parse(Buffer.concat(chunks).toString()) as JsonError
    assert.equal(answer.status, 500)
    assert.equal(error.message, "internal error")
    assert.equal(reasonOf(error), "INTERNAL")
    assert.deepEqual(logged, [{ method: "probe/Echo", code: 13, cause: "serialize binary: field x" }])
  })
})

describe("without authentication, the HTTP/1.1 edge", { timeout: 60_000 }, () => {
  const path = `${SERVICE}/Echo?connect=v1&encoding=json&message={}`
  const foreign: Readonly<Record<string, string>>[] = [
    { host: "evil.example" },
    { host: "localhost.evil.example:80" },
    { origin: "https://evil.example" },
    { origin: "https://127.0.0.1.evil.example" },
    { origin: "null" },
    { origin: "http://evil.example", "sec-fetch-site": "same-origin" },
    { "sec-fetch-site": "cross-site" },
  ]

  it("serves programs and local pages, and refuses what pages from elsewhere send", async () => {
    await using edge = await open("json tcp")
    const local: Readonly<Record<string, string>>[] = [
      {},
      { host: "localhost:1234" },
      { host: "[::1]:1234" },
      { origin: "http://localhost:3000", "sec-fetch-site": "cross-site" },
      { origin: "http://[::1]:3000" },
      { "sec-fetch-site": "none" },
      { "sec-fetch-site": "same-origin" },
    ]
    for (const headers of local) {
      assert.equal((await send(edge, path, { headers })).status, 200, JSON.stringify(headers))
    }
    for (const headers of foreign) {
      const answer = await send(edge, path, { headers })
      assert.equal(answer.status, 403, JSON.stringify(headers))
      const { message, reason } = jsonError(answer)
      assert.equal(reason, "PERMISSION_DENIED")
      assert.match(message, /without authentication/)
    }
  })

  it("serves whatever comes in by the socket file, which no browser can reach", async () => {
    await using edge = await open("json tcp")
    for (const headers of foreign) {
      const answer = await send(edge, path, { headers, socketPath: edge.socketFile })
      assert.equal(answer.status, 200, JSON.stringify(headers))
    }
  })

  it("asks for a credential and not for where a page is from once authentication is on", async () => {
    await using edge = await open("json tcp", { authenticator: { authenticate: () => undefined } })
    for (const headers of foreign) {
      const answer = await send(edge, path, { headers })
      assert.equal(answer.status, 401, JSON.stringify(headers))
    }
  })
})
