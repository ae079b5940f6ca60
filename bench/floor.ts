/**
 * The floor: the daemon's own transport, on which one handler does nothing but decode the request and answer a ready-made value,
 * without anything of the daemon between. It runs as a process of its own, takes the transport's name (`http2` or `grpc-js`), and
 * prints its port.
 */
import { once } from "node:events"
import { type AddressInfo, createServer } from "node:net"
import { create, fromBinary, toBinary } from "@bufbuild/protobuf"
import {
  CacheService,
  CacheServiceGetRequestSchema,
  CacheServiceGetResponseSchema,
} from "../src/gen/keelplane/v1/cache_service_pb.ts"
import type { Call } from "../src/rpc/call.ts"
import type { CompiledMethod } from "../src/rpc/compile.ts"
import { DEFAULT_LIMITS } from "../src/rpc/limits.ts"
import { createGrpcJsTransport } from "../src/rpc/transports/grpc-js.ts"
import { createHttp2Transport } from "../src/rpc/transports/http2.ts"

const answer = create(CacheServiceGetResponseSchema, {
  found: true,
  entry: { value: { case: "data", value: new Uint8Array(128).fill(7) }, revision: 1n },
})

const method: Pick<CompiledMethod, "path" | "kind" | "encode" | "run"> = {
  path: `/${CacheService.typeName}/Get`,
  kind: "unary",
  encode(_response, room = 0) {
    const bytes = toBinary(CacheServiceGetResponseSchema, answer)
    if (room === 0) return bytes
    const roomy = Buffer.allocUnsafe(room + bytes.byteLength)
    roomy.set(bytes, room)
    return roomy
  },
  run(call: Call) {
    fromBinary(CacheServiceGetRequestSchema, call.raw as Uint8Array)
    call.settled = true
    call.finish(undefined, answer)
  },
}

const makeTransport = process.argv[2] === "grpc-js" ? createGrpcJsTransport : createHttp2Transport
const transport = makeTransport(new Map([[method.path, method as CompiledMethod]]), DEFAULT_LIMITS)
const server = createServer({ noDelay: true }, (socket) => transport.accept(socket))
await once(server.listen(0, "127.0.0.1"), "listening")
console.log((server.address() as AddressInfo).port)
