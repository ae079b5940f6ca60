/** One way to call for every transport, so that a test is written once. */
import {
  type DescMessage,
  fromBinary,
  fromJson,
  type JsonValue,
  type Message,
  toBinary,
  toJson,
} from "@bufbuild/protobuf"
import { Client, credentials, Metadata, type ServiceError } from "@grpc/grpc-js"
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
} from "../../../src/gen/google/rpc/error_details_pb.ts"
import { StatusSchema } from "../../../src/gen/google/rpc/status_pb.ts"

/** What came back, in the same words from every transport. */
export interface Outcome {
  readonly code: number
  readonly message: string
  readonly reason: string | undefined
  readonly infos: number
  readonly metadata: Readonly<Record<string, string>>
  readonly fields: readonly string[]
  readonly retryMs: number | undefined
  readonly pushback: string | undefined
  readonly trailer: string | undefined
  readonly response: Readonly<Record<string, unknown>>
}

/** How to send one unary call. */
export interface UnaryCall {
  readonly path: string
  readonly input: DescMessage
  readonly output: DescMessage
  /** A message, or raw bytes in the transport's own format. */
  readonly request: Message | Buffer
  readonly headers?: Readonly<Record<string, string>>
  readonly timeoutMs?: number
}

/** A client for one transport. */
export interface UnaryClient {
  call(call: UnaryCall): Promise<Outcome>
  close(): void
}

const identity = (bytes: Buffer): Buffer => bytes

/** grpc-js over TCP (`host:port`) or a socket file (`unix:path`). */
export function grpcClient(target: string): UnaryClient & { readonly raw: Client } {
  const raw = new Client(target, credentials.createInsecure(), {
    "grpc.use_local_subchannel_pool": 1,
    "grpc.enable_retries": 0,
    "grpc.max_receive_message_length": -1,
  })
  return {
    raw,
    call: (call) => grpcCall(raw, call),
    close: () => raw.close(),
  }
}

function grpcCall(raw: Client, call: UnaryCall): Promise<Outcome> {
  const metadata = new Metadata()
  for (const [name, value] of Object.entries(call.headers ?? {})) metadata.set(name, value)
  const bytes = Buffer.isBuffer(call.request) ? call.request : Buffer.from(toBinary(call.input, call.request))
  // As a header, not as the library's own deadline: what answers in time must be the daemon.
  if (call.timeoutMs !== undefined) metadata.set("grpc-timeout", grpcTimeout(call.timeoutMs))
  return new Promise((resolve) => {
    let response: Readonly<Record<string, unknown>> = {}
    const sent = raw.makeUnaryRequest(call.path, identity, identity, bytes, metadata, (error, answer) => {
      if (error !== null) resolve(failure(error))
      else if (answer !== undefined) response = plain(fromBinary(call.output, answer))
    })
    sent.on("status", (status) => {
      if (status.code === 0) resolve({ ...success(response), trailer: first(status.metadata, "x-probe") })
    })
  })
}

function grpcTimeout(ms: number): string {
  return ms < 1e8 ? `${ms}m` : `${Math.floor(ms / 1000)}S`
}

function plain(message: Message): Readonly<Record<string, unknown>> {
  return message as unknown as Readonly<Record<string, unknown>>
}

function success(response: Readonly<Record<string, unknown>>): Outcome {
  return {
    code: 0,
    message: "",
    reason: undefined,
    infos: 0,
    metadata: {},
    fields: [],
    retryMs: undefined,
    pushback: undefined,
    trailer: undefined,
    response,
  }
}

function first(metadata: Metadata, name: string): string | undefined {
  return metadata.get(name)[0]?.toString()
}

/** A grpc-js failure in plain words. */
export function failure(error: ServiceError): Outcome {
  const bin = error.metadata?.get("grpc-status-details-bin")[0]
  const details = Buffer.isBuffer(bin) ? fromBinary(StatusSchema, bin).details : []
  return {
    ...success({}),
    ...explain(details.map((each) => ({ type: each.typeUrl.replace(/^.*\//, ""), value: each.value }))),
    code: error.code,
    message: error.details,
    pushback: error.metadata === undefined ? undefined : first(error.metadata, "grpc-retry-pushback-ms"),
  }
}

function explain(details: readonly { type: string; value: Uint8Array }[]) {
  const of = (type: string) => details.filter((each) => each.type === type).map((each) => each.value)
  const infos = of("google.rpc.ErrorInfo").map((each) => fromBinary(ErrorInfoSchema, each))
  const bad = of("google.rpc.BadRequest").map((each) => fromBinary(BadRequestSchema, each))
  const retry = of("google.rpc.RetryInfo").map((each) => fromBinary(RetryInfoSchema, each))[0]?.retryDelay
  return {
    reason: infos[0]?.reason,
    infos: infos.length,
    metadata: infos[0]?.metadata ?? {},
    fields: bad.flatMap((each) => each.fieldViolations.map(({ field }) => field)),
    retryMs: retry === undefined ? undefined : Number(retry.seconds) * 1000 + retry.nanos / 1e6,
  }
}

const CODES = [
  "ok",
  "canceled",
  "unknown",
  "invalid_argument",
  "deadline_exceeded",
  "not_found",
  "already_exists",
  "permission_denied",
  "resource_exhausted",
  "failed_precondition",
  "aborted",
  "out_of_range",
  "unimplemented",
  "internal",
  "unavailable",
  "data_loss",
  "unauthenticated",
]

/** Connect's JSON over HTTP/1.1, as curl sends it. */
export function jsonClient(base: string): UnaryClient {
  return {
    async call(call) {
      const raw = Buffer.isBuffer(call.request)
      const headers: Record<string, string> = {
        "content-type": raw ? "application/proto" : "application/json",
        ...call.headers,
      }
      if (call.timeoutMs !== undefined) headers["connect-timeout-ms"] = String(call.timeoutMs)
      const body = Buffer.isBuffer(call.request)
        ? call.request
        : JSON.stringify(toJson(call.input, call.request))
      const answer = await fetch(base + call.path, { method: "POST", headers, body })
      const text = (await answer.json()) as JsonValue
      if (answer.status === 200) {
        const trailer = answer.headers.get("trailer-x-probe") ?? undefined
        return { ...success(plain(fromJson(call.output, text))), trailer }
      }
      return jsonFailure(
        answer,
        text as { code: string; message: string; details?: { type: string; value: string }[] },
      )
    },
    close() {},
  }
}

function jsonFailure(
  answer: Response,
  body: { code: string; message?: string; details?: { type: string; value: string }[] },
): Outcome {
  const details = (body.details ?? []).map(({ type, value }) => ({
    type,
    value: Buffer.from(value, "base64"),
  }))
  return {
    ...success({}),
    ...explain(details),
    code: CODES.indexOf(body.code),
    message: body.message ?? "",
    pushback: answer.headers.get("grpc-retry-pushback-ms") ?? undefined,
  }
}
