/** Server reflection, v1 and v1alpha, from the descriptors that the services were built with. */
import {
  type DescExtension,
  type DescFile,
  type DescMessage,
  type DescService,
  toBinary,
} from "@bufbuild/protobuf"
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt"
import { file_google_rpc_error_details } from "../../gen/google/rpc/error_details_pb.ts"
import type {
  ServerReflectionRequest,
  ServerReflectionResponse,
} from "../../gen/grpc/reflection/v1/reflection_pb.ts"
import { ServerReflection } from "../../gen/grpc/reflection/v1/reflection_pb.ts"
import { ServerReflection as ServerReflectionAlpha } from "../../gen/grpc/reflection/v1alpha/reflection_pb.ts"
import { file_keelplane_v1_error_reason } from "../../gen/keelplane/v1/error_reason_pb.ts"
import { type Service, service } from "../handler.ts"

const NOT_FOUND = 5
const INVALID_ARGUMENT = 3

type Answer = ServerReflectionResponse["messageResponse"]

/** The reflection services for `services` and for themselves. */
export function createReflectionServices(services: readonly Service[]): readonly Service[] {
  const index = new ReflectionIndex([
    ...services.map((each) => each.descriptor),
    ServerReflection,
    ServerReflectionAlpha,
  ])
  async function* answers<Request extends ServerReflectionRequestLike>(requests: AsyncIterable<Request>) {
    for await (const request of requests) {
      yield {
        validHost: request.host,
        originalRequest: request,
        messageResponse: index.answer(request.messageRequest),
      }
    }
  }
  return [
    service(ServerReflection, {
      serverReflectionInfo: (requests) => answers(requests) as AsyncIterable<ServerReflectionResponse>,
    }),
    // The two versions are the same messages under two names.
    service(ServerReflectionAlpha, {
      serverReflectionInfo: (requests) => answers(requests) as never,
    }),
  ]
}

interface ServerReflectionRequestLike {
  readonly host: string
  readonly messageRequest: { readonly case: string | undefined; readonly value?: unknown }
}

class ReflectionIndex {
  readonly #services: readonly string[]
  readonly #files = new Map<string, DescFile>()
  readonly #symbols = new Map<string, DescFile>()
  readonly #extensions: DescExtension[] = []

  constructor(services: readonly DescService[]) {
    this.#services = services.map((each) => each.typeName).sort()
    for (const each of services) this.#addFile(each.file)
    // No RPC mentions the error details, and a client that shows a failure asks for them by name.
    this.#addFile(file_google_rpc_error_details)
    this.#addFile(file_keelplane_v1_error_reason)
  }

  #addFile(file: DescFile): void {
    const name = `${file.name}.proto`
    if (this.#files.has(name)) return
    this.#files.set(name, file)
    for (const each of file.services) {
      this.#symbols.set(each.typeName, file)
      for (const method of each.methods) this.#symbols.set(`${each.typeName}.${method.name}`, file)
    }
    for (const each of file.enums) this.#symbols.set(each.typeName, file)
    for (const each of file.extensions) this.#addExtension(each, file)
    for (const each of file.messages) this.#addMessage(each, file)
    for (const each of file.dependencies) this.#addFile(each)
  }

  #addMessage(message: DescMessage, file: DescFile): void {
    this.#symbols.set(message.typeName, file)
    for (const each of message.fields) this.#symbols.set(`${message.typeName}.${each.name}`, file)
    for (const each of message.nestedEnums) this.#symbols.set(each.typeName, file)
    for (const each of message.nestedExtensions) this.#addExtension(each, file)
    for (const each of message.nestedMessages) this.#addMessage(each, file)
  }

  #addExtension(extension: DescExtension, file: DescFile): void {
    this.#symbols.set(extension.typeName, file)
    this.#extensions.push(extension)
  }

  answer(request: ServerReflectionRequestLike["messageRequest"]): Answer {
    const asked = request as ServerReflectionRequest["messageRequest"]
    switch (asked.case) {
      case "listServices":
        return list(this.#services)
      case "fileByFilename":
        return this.#file(this.#files.get(asked.value), asked.value)
      case "fileContainingSymbol":
        return this.#file(this.#symbols.get(asked.value), asked.value)
      case "fileContainingExtension": {
        const { containingType, extensionNumber } = asked.value
        const found = this.#extensionsOf(containingType).find((each) => each.number === extensionNumber)
        return this.#file(found?.file, `${containingType} ${extensionNumber}`)
      }
      case "allExtensionNumbersOfType":
        return this.#numbers(asked.value)
      default:
        return failure(INVALID_ARGUMENT, "the request asks for nothing that is known")
    }
  }

  #extensionsOf(typeName: string): readonly DescExtension[] {
    return this.#extensions.filter((each) => each.extendee.typeName === typeName)
  }

  #numbers(typeName: string): Answer {
    if (!this.#symbols.has(typeName)) return failure(NOT_FOUND, `there is no ${typeName.slice(0, 200)}`)
    const extensionNumber = this.#extensionsOf(typeName).map((each) => each.number)
    return {
      case: "allExtensionNumbersResponse",
      value: {
        $typeName: "grpc.reflection.v1.ExtensionNumberResponse",
        baseTypeName: typeName,
        extensionNumber,
      },
    }
  }

  /** The file and everything it imports, so that a client needs one round trip. */
  #file(file: DescFile | undefined, asked: string): Answer {
    if (file === undefined) return failure(NOT_FOUND, `there is no ${asked.slice(0, 200)}`)
    const all = new Set<DescFile>()
    const add = (each: DescFile): void => {
      if (all.has(each)) return
      all.add(each)
      for (const dependency of each.dependencies) add(dependency)
    }
    add(file)
    const fileDescriptorProto = [...all].map((each) => toBinary(FileDescriptorProtoSchema, each.proto))
    return {
      case: "fileDescriptorResponse",
      value: { $typeName: "grpc.reflection.v1.FileDescriptorResponse", fileDescriptorProto },
    }
  }
}

function list(names: readonly string[]): Answer {
  const entries = names.map((name) => ({ $typeName: "grpc.reflection.v1.ServiceResponse" as const, name }))
  return {
    case: "listServicesResponse",
    value: { $typeName: "grpc.reflection.v1.ListServiceResponse", service: entries },
  }
}

function failure(errorCode: number, errorMessage: string): Answer {
  return {
    case: "errorResponse",
    value: { $typeName: "grpc.reflection.v1.ErrorResponse", errorCode, errorMessage },
  }
}
