/** gRPC by hand, frame by frame: what no client library sends. */
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect as connectHttp2,
  type IncomingHttpHeaders,
} from "node:http2"
import { connect } from "node:net"
import { type DescMessage, fromBinary, type Message } from "@bufbuild/protobuf"
import { ErrorInfoSchema } from "../../../src/gen/google/rpc/error_details_pb.ts"
import { StatusSchema } from "../../../src/gen/google/rpc/status_pb.ts"
import type { Edge } from "./harness.ts"

const SERVICE = "/keelplane.probe.v1.ProbeService/"

/** What came back on one stream. */
export interface RawAnswer {
  readonly headers: IncomingHttpHeaders
  /** The last headers: trailers, or the only ones. */
  readonly trailers: IncomingHttpHeaders
  readonly code: number | undefined
  readonly reason: string | undefined
  /** The code the stream was closed with. */
  readonly rst: number
  messages<T>(desc: DescMessage): T[]
}

/** A connection that is closed with its scope. */
export function openSession(edge: Edge): ClientHttp2Session & Disposable {
  const path = edge.target.startsWith("unix:") ? edge.target.slice("unix:".length) : undefined
  const session = connectHttp2("http://localhost", {
    createConnection: () => connect(path === undefined ? { ...edge.tcp } : { path }),
  })
  session.on("error", () => {})
  return Object.assign(session, { [Symbol.dispose]: () => session.destroy() })
}

/** A message with its prefix, under a flag of the test's choice. */
export function flagged(flag: number, message: Uint8Array): Buffer {
  const prefix = Buffer.alloc(5)
  prefix[0] = flag
  prefix.writeUInt32BE(message.byteLength, 1)
  return Buffer.concat([prefix, message])
}

/** Opens a stream; the test writes to it and ends it. */
export function begin(
  session: ClientHttp2Session,
  rpc: string,
  headers: Readonly<Record<string, string>> = {},
): { readonly stream: ClientHttp2Stream; readonly answer: Promise<RawAnswer> } {
  const stream = session.request({
    ":method": "POST",
    ":path": SERVICE + rpc,
    "content-type": "application/grpc",
    te: "trailers",
    ...headers,
  })
  return { stream, answer: answerOf(stream) }
}

/** One call with these bytes as its body. */
export function post(
  session: ClientHttp2Session,
  rpc: string,
  body: Uint8Array,
  headers: Readonly<Record<string, string>> = {},
): Promise<RawAnswer> {
  const { stream, answer } = begin(session, rpc, headers)
  stream.end(body)
  return answer
}

function answerOf(stream: ClientHttp2Stream): Promise<RawAnswer> {
  let headers: IncomingHttpHeaders = {}
  let trailers: IncomingHttpHeaders | undefined
  const chunks: Buffer[] = []
  stream.on("error", () => {})
  stream.on("response", (fields) => {
    headers = fields
  })
  stream.on("trailers", (fields) => {
    trailers = fields
  })
  stream.on("data", (chunk: Buffer) => chunks.push(chunk))
  return new Promise((resolve) => {
    stream.on("close", () => {
      const last = trailers ?? headers
      const status = last["grpc-status"]
      resolve({
        headers,
        trailers: last,
        code: status === undefined ? undefined : Number(status),
        reason: reasonOf(last["grpc-status-details-bin"]),
        rst: stream.rstCode,
        messages: <T>(desc: DescMessage) =>
          unframed(Buffer.concat(chunks)).map((each) => decoded<T>(desc, each)),
      })
    })
  })
}

function decoded<T>(desc: DescMessage, bytes: Buffer): T {
  const message: Message = fromBinary(desc, bytes)
  return message as unknown as T
}

function unframed(bytes: Buffer): Buffer[] {
  const messages: Buffer[] = []
  for (let from = 0; from < bytes.length; ) {
    const end = from + 5 + bytes.readUInt32BE(from + 1)
    messages.push(bytes.subarray(from + 5, end))
    from = end
  }
  return messages
}

function reasonOf(header: string | string[] | undefined): string | undefined {
  if (typeof header !== "string") return undefined
  const { details } = fromBinary(StatusSchema, Buffer.from(header, "base64"))
  const [info] = details.filter(({ typeUrl }) => typeUrl.endsWith("google.rpc.ErrorInfo"))
  return info && fromBinary(ErrorInfoSchema, info.value).reason
}
