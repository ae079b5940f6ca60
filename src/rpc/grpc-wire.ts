/** The parts of the gRPC wire format that both HTTP/2 transports write. */
import type { ServerHttp2Stream } from "node:http2"
import { DomainError } from "../domain/kernel/errors.ts"
import { type RpcStatus, statusDetailsBin, statusOf } from "./status.ts"

/** Carries google.rpc.Status with its details. */
export const DETAILS_TRAILER = "grpc-status-details-bin"
/** Tells a retrying client how long to wait, in milliseconds; negative for never. */
export const PUSHBACK_TRAILER = "grpc-retry-pushback-ms"

const CONTENT_TYPE = "application/grpc+proto"
/** Nobody reads the date of an answer; a version of Node that does not know the option sends it. */
export const NO_DATE = Object.freeze({ sendDate: false })
/** For answers that end with their headers. */
export const NO_BODY = Object.freeze({ ...NO_DATE, endStream: true })
const TIMEOUT = /^\d{1,8}[HMSmun]$/
const UNIT_MS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 }

/** Milliseconds of a grpc-timeout header; undefined for none, NaN for one that is not in the format. */
export function parseTimeout(header: string | undefined): number | undefined {
  if (header === undefined) return undefined
  if (!TIMEOUT.test(header)) return Number.NaN
  return Number(header.slice(0, -1)) * (UNIT_MS[header.slice(-1)] ?? Number.NaN)
}

/** INVALID_ARGUMENT for a grpc-timeout that is not in the format. */
export function badTimeout(): RpcStatus {
  const rule = "must be 1 to 8 digits and one of H, M, S, m, u, n"
  return statusOf(
    new DomainError("INVALID_FIELD", `grpc-timeout ${rule}`, {
      metadata: { field: "grpc-timeout" },
      violations: [{ field: "grpc-timeout", description: rule }],
    }),
  )
}

/** UNIMPLEMENTED for a path that no service answers. */
export function unknownMethod(path: string): RpcStatus {
  const method = path.replace(/^\//, "").slice(0, 200)
  return statusOf(new DomainError("UNIMPLEMENTED", `there is no RPC ${method}`, { metadata: { method } }))
}

/** What gRPC does not send as it is: everything but printable ASCII, and the sign of the encoding itself. */
const ESCAPED = /[^\x20-\x24\x26-\x7e]+/gu

/** A text without lone surrogates as `grpc-message` carries it. */
function percentEncoded(text: string): string {
  return text.replace(ESCAPED, (part) =>
    Buffer.from(part).toString("hex").toUpperCase().replaceAll(/../g, "%$&"),
  )
}

/** The trailers of a failure, as HTTP/2 headers. */
export function failureTrailers(status: RpcStatus): Record<string, string | number> {
  const trailers: Record<string, string | number> = {
    "grpc-status": status.code,
    "grpc-message": percentEncoded(status.message),
    [DETAILS_TRAILER]: Buffer.from(statusDetailsBin(status)).toString("base64"),
  }
  if (status.pushbackMs !== undefined) trailers[PUSHBACK_TRAILER] = status.pushbackMs
  return trailers
}

/** Ends a stream that has sent nothing yet: headers and trailers in one frame. `more` are further ones. */
export function respondTrailersOnly(
  stream: ServerHttp2Stream,
  status: RpcStatus,
  more?: Readonly<Record<string, string | number>>,
): void {
  if (stream.destroyed || stream.closed || stream.headersSent) return
  stream.respond(
    { ":status": 200, "content-type": CONTENT_TYPE, ...more, ...failureTrailers(status) },
    NO_BODY,
  )
}
