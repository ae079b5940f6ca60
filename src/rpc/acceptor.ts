/** From raw request to a message that keeps the proto's rules. */
import { create, type DescMessage, type Message } from "@bufbuild/protobuf"
import { pathToString } from "@bufbuild/protobuf/reflect"
import type { Validator } from "@bufbuild/protovalidate"
import { DomainError, limitExceeded } from "../domain/kernel/errors.ts"
import { compileDecoder, type Decoder } from "./codec/decode.ts"
import { isDeeperThan, mayBeDeeperThan } from "./codec/depth.ts"
import { type Accepts, compileRules, hasRules } from "./codec/rules.ts"
import type { RpcLimits } from "./limits.ts"

/** Makes messages of one type. */
export interface Acceptor {
  /** Takes bytes, or a message that a transport has decoded already; answers the message or throws DomainError. */
  readonly accept: (raw: unknown) => object
  /** Compiles decoder and rules now rather than with the first message, which takes some milliseconds. Throws where rules do not compile. */
  readonly warm: () => void
}

/** One Struct level is three protobuf levels: Struct, map entry, Value. */
const PROTO_LEVELS_PER_DEPTH = 3

/** How deep decoders may go, so that everything within `maxDepth` passes them. */
export function recursionLimit(maxDepth: number): number {
  return maxDepth * PROTO_LEVELS_PER_DEPTH + 8
}

/** The acceptor of one request type. */
export function createAcceptor(desc: DescMessage, validator: Validator, limits: RpcLimits): Acceptor {
  const { maxDepth } = limits
  const deep = reaches(desc, canNest)
  const ruled = hasRules(desc)
  let compiled: Fast | undefined
  const fast = () => {
    compiled ??= compileFast(desc, maxDepth)
    return compiled
  }
  return {
    accept(raw) {
      const { decoder, accepts } = compiled ?? fast()
      const encoded = raw instanceof Uint8Array
      const message = encoded ? decode(desc, decoder, raw, maxDepth) : (raw as Message)
      if (deep && (!encoded || mayBeDeeperThan(maxDepth, decoder.deepest))) checkDepth(message, maxDepth)
      if (ruled && accepts?.(message) !== true) check(validator, desc, message)
      return message
    },
    warm() {
      fast()
      if (!ruled) return
      const trial = validator.validate(desc, create(desc))
      if (trial.kind === "error") throw trial.error
    },
  }
}

/** What is compiled with the first message. */
interface Fast {
  readonly decoder: Decoder
  readonly accepts: Accepts | undefined
}

function compileFast(desc: DescMessage, maxDepth: number): Fast {
  return { decoder: compileDecoder(desc, recursionLimit(maxDepth)), accepts: compileRules(desc) }
}

function decode(desc: DescMessage, decoder: Decoder, bytes: Uint8Array, maxDepth: number): Message {
  try {
    return decoder.decode(bytes)
  } catch (cause) {
    throw undecodable(desc.typeName, cause, maxDepth)
  }
}

function checkDepth(message: Message, maxDepth: number): void {
  if (isDeeperThan(maxDepth, message)) throw limitExceeded("depth", maxDepth + 1, maxDepth)
}

/** The failure of a request that no decoder could read. */
export function undecodable(typeName: string, cause: unknown, maxDepth: number): DomainError {
  if (cause instanceof Error && cause.message.includes("recursion depth")) {
    return new DomainError("LIMIT_EXCEEDED", `the message nests deeper than ${maxDepth} levels`, {
      metadata: { limit: "depth", maximum: String(maxDepth) },
      cause,
    })
  }
  return new DomainError("MALFORMED_MESSAGE", `the request is not a valid ${typeName} message`, { cause })
}

/** Whether `found` holds for the type or for any type it can contain. */
function reaches(
  desc: DescMessage,
  found: (desc: DescMessage) => boolean,
  seen = new Set<string>(),
): boolean {
  if (seen.has(desc.typeName)) return false
  seen.add(desc.typeName)
  return (
    found(desc) ||
    desc.fields.some((each) => each.message !== undefined && reaches(each.message, found, seen))
  )
}

/** Types whose values can nest without end: JSON, and those that contain themselves. */
function canNest(desc: DescMessage): boolean {
  if (desc.typeName === "google.protobuf.Struct" || desc.typeName === "google.protobuf.Value") return true
  return desc.fields.some(
    (each) => each.message !== undefined && reaches(each.message, (inner) => inner === desc),
  )
}

function check(validator: Validator, desc: DescMessage, message: Message): void {
  const result = validator.validate(desc, message)
  if (result.kind === "valid") return
  if (result.kind === "error") throw result.error
  const violations = result.violations.map((each) => ({
    field: pathToString(each.field),
    description: each.message === "" ? `breaks the rule ${each.ruleId}` : each.message,
  }))
  const first = violations[0] ?? { field: "", description: "breaks a rule" }
  throw new DomainError("INVALID_FIELD", `${first.field}: ${first.description}`.replace(/^: /, ""), {
    metadata: { field: first.field },
    violations,
  })
}
