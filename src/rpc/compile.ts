/** Services become a flat table of methods, each with its codec and its handler behind the interceptors, once at start-up. */
import { type DescMessage, type DescMethod, getOption } from "@bufbuild/protobuf"
import { createValidator } from "@bufbuild/protovalidate"
import { DomainError } from "../domain/kernel/errors.ts"
import { rpc as rpcOption } from "../gen/keelplane/v1/options_pb.ts"
import { type Acceptor, createAcceptor } from "./acceptor.ts"
import type { ActiveCalls } from "./active-calls.ts"
import type { Call } from "./call.ts"
import { compileEncoder, type Encode } from "./codec/encode.ts"
import type { AnyHandler, Service } from "./handler.ts"
import { CHAIN, type ChainParts } from "./interceptors/chain.ts"
import type { Interceptor, Step } from "./interceptors/step.ts"
import { Runner } from "./runner.ts"

export { toMessage } from "./codec/encode.ts"

/** What interceptors may know about a method when they are compiled. */
export interface MethodInfo {
  readonly desc: DescMethod
  /** `keelplane.v1.CacheService/Get`. */
  readonly name: string
  readonly kind: DescMethod["methodKind"]
  /** The permission it needs; empty for none. */
  readonly permission: string
  /** What covers the permission's whole plane, e.g. `cache.*`. */
  readonly plane: string
  readonly platformOnly: boolean
  /** Stays open without a default deadline although it is unary. */
  readonly longLived: boolean
  readonly access: "public" | "authenticated"
  /** Decodes, limits and validates one request message. */
  readonly accept: Acceptor["accept"]
}

/** One method as transports serve it. */
export interface CompiledMethod extends MethodInfo {
  /** HTTP path, `/keelplane.v1.CacheService/Get`. */
  readonly path: string
  /**
   * Serializes an answer, beginning after `room` bytes for the transport to fill; throws RESPONSE_TOO_LARGE where it is
   * larger than a message may be.
   */
  encode(response: object, room?: number): Uint8Array
  /** Serves a call: the transport hears of the end through {@link Call.finish}, possibly before this returns. */
  run(call: Call): void
}

/** The methods of a server by path. */
export interface CompiledServices {
  readonly methods: ReadonlyMap<string, CompiledMethod>
  /** One job per type: compiles its codec and rules. For the time between listening and the first call. */
  readonly warmers: readonly (() => void)[]
}

/** Compiles all methods of all services. Throws where a service lacks a handler. */
export function compileServices(
  services: readonly Service[],
  parts: ChainParts,
  active: ActiveCalls,
): CompiledServices {
  const interceptors = CHAIN.map((link) => link.make(parts))
  const validator = createValidator()
  const acceptors = new Map<string, Acceptor>()
  const acceptorOf = (desc: DescMessage): Acceptor => {
    const known = acceptors.get(desc.typeName) ?? createAcceptor(desc, validator, parts.limits)
    acceptors.set(desc.typeName, known)
    return known
  }
  const encoders = new Map<string, LazyEncoder>()
  const encoderOf = (desc: DescMessage): LazyEncoder => {
    const known = encoders.get(desc.typeName) ?? new LazyEncoder(desc, parts.limits.maxMessageBytes)
    encoders.set(desc.typeName, known)
    return known
  }
  const methods = new Map<string, CompiledMethod>()
  for (const service of services) {
    for (const desc of service.descriptor.methods) {
      const handler = service.handlers[desc.localName]
      const info = describe(service, desc, acceptorOf(desc.input).accept)
      if (handler === undefined) throw new Error(`${info.name} has no handler`)
      const method = compileMethod(info, handler, interceptors, encoderOf(desc.output), active)
      methods.set(method.path, method)
    }
  }
  const warmers = [...acceptors.values()].map((each) => each.warm)
  return { methods, warmers: [...warmers, ...[...encoders.values()].map((each) => () => each.warm())] }
}

function describe(service: Service, desc: DescMethod, accept: Acceptor["accept"]): MethodInfo {
  const options = getOption(desc, rpcOption)
  return {
    desc,
    name: `${service.descriptor.typeName}/${desc.name}`,
    kind: desc.methodKind,
    permission: options.permission,
    plane: options.permission.replace(/\.[^.]*$/, ".*"),
    platformOnly: options.platformOnly,
    longLived: options.longLived,
    access: service.access ?? "authenticated",
    accept,
  }
}

function compileMethod(
  info: MethodInfo,
  handler: AnyHandler,
  interceptors: readonly Interceptor[],
  encoder: LazyEncoder,
  active: ActiveCalls,
): CompiledMethod {
  const steps: Step[] = []
  for (const interceptor of interceptors) {
    const step = interceptor.compile(info)
    if (step !== undefined) steps.push(step)
  }
  const runner = new Runner(info, handler, steps, active)
  return {
    ...info,
    path: `/${info.name}`,
    encode: (response, room) => encoder.encode(response, room),
    run: (call) => runner.run(call),
  }
}

/** Serializes answers of one type, compiled with the first of them. */
class LazyEncoder {
  readonly #desc: DescMessage
  readonly #maxBytes: number
  #compiled: Encode | undefined

  constructor(desc: DescMessage, maxBytes: number) {
    this.#desc = desc
    this.#maxBytes = maxBytes
  }

  warm(): Encode {
    this.#compiled ??= compileEncoder(this.#desc)
    return this.#compiled
  }

  encode(response: object, room = 0): Uint8Array {
    const bytes = (this.#compiled ?? this.warm())(response, room)
    const size = bytes.byteLength - room
    if (size > this.#maxBytes) throw tooLarge(size, this.#maxBytes)
    return bytes
  }
}

function tooLarge(value: number, maximum: number): DomainError {
  return new DomainError(
    "RESPONSE_TOO_LARGE",
    `the answer has ${value} bytes, at most ${maximum} fit into a message; ask for a smaller page_size, k, limit or view`,
    { metadata: { value: String(value), maximum: String(maximum) } },
  )
}
