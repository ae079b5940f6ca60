/**
 * The floor: a bare grpc-js server whose one handler does nothing but decode the request and answer a ready-made value. It
 * runs as a process of its own; prints its port.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf"
import { Server, ServerCredentials, type ServerUnaryCall, type sendUnaryData } from "@grpc/grpc-js"
import {
  CacheService,
  type CacheServiceGetRequest,
  CacheServiceGetRequestSchema,
  type CacheServiceGetResponse,
  CacheServiceGetResponseSchema,
} from "../src/gen/keelplane/v1/cache_service_pb.ts"

const answer = create(CacheServiceGetResponseSchema, {
  found: true,
  entry: { value: { case: "data", value: new Uint8Array(128).fill(7) }, revision: 1n },
})

const server = new Server({ "grpc.enable_channelz": 0 })
server.addService(
  {
    Get: {
      path: `/${CacheService.typeName}/Get`,
      requestStream: false,
      responseStream: false,
      requestSerialize: (message: CacheServiceGetRequest) =>
        Buffer.from(toBinary(CacheServiceGetRequestSchema, message)),
      requestDeserialize: (bytes: Buffer) => fromBinary(CacheServiceGetRequestSchema, bytes),
      responseSerialize: (message: CacheServiceGetResponse) => {
        const bytes = toBinary(CacheServiceGetResponseSchema, message)
        return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
      },
      responseDeserialize: (bytes: Buffer) => fromBinary(CacheServiceGetResponseSchema, bytes),
    },
  },
  {
    Get: (
      _call: ServerUnaryCall<CacheServiceGetRequest, CacheServiceGetResponse>,
      callback: sendUnaryData<CacheServiceGetResponse>,
    ) => callback(null, answer),
  },
)
server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error
  console.log(port)
})
