/** From raw request to a message that keeps the proto's rules. */
import {
  create,
  type DescField,
  type DescMessage,
  fromBinary,
  hasOption,
  type Message,
} from "@bufbuild/protobuf"
import { pathToString } from "@bufbuild/protobuf/reflect"
import type { Validator } from "@bufbuild/protovalidate"
import { DomainError, limitExceeded } from "../domain/kernel/errors.ts"
import {
  field as fieldRules,
  message as messageRules,
  oneof as oneofRules,
} from "../gen/buf/validate/validate_pb.ts"
import type { RpcLimits } from "./limits.ts"

/** Makes messages of one type. */
export interface Acceptor {
  /** Takes bytes, or a message that a transport has decoded already; answers the message or throws DomainError. */
  readonly accept: (raw: unknown) => object
  /** Compiles the type's rules now rather than with the first message, which takes some milliseconds. Throws where they do not compile. */
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
  const options = { readUnknownFields: false, recursionLimit: recursionLimit(limits.maxDepth) }
  const deep = reaches(desc, canNest)
  const ruled = reaches(desc, hasRules)
  return {
    accept(raw) {
      const message =
        raw instanceof Uint8Array ? decode(desc, raw, options, limits.maxDepth) : (raw as Message)
      if (deep) checkDepth(message, limits.maxDepth)
      if (ruled) check(validator, desc, message)
      return message
    },
    warm() {
      if (!ruled) return
      const trial = validator.validate(desc, create(desc))
      if (trial.kind === "error") throw trial.error
    },
  }
}

function decode(
  desc: DescMessage,
  bytes: Uint8Array,
  options: { readUnknownFields: boolean; recursionLimit: number },
  maxDepth: number,
): Message {
  try {
    return fromBinary(desc, bytes, options)
  } catch (cause) {
    throw undecodable(desc.typeName, cause, maxDepth)
  }
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

function hasRules(desc: DescMessage): boolean {
  return (
    hasOption(desc, messageRules) ||
    desc.oneofs.some((each) => hasOption(each, oneofRules)) ||
    desc.fields.some((each: DescField) => hasOption(each, fieldRules))
  )
}

/** Types whose values can nest without end: JSON, and those that contain themselves. */
function canNest(desc: DescMessage): boolean {
  if (desc.typeName === "google.protobuf.Struct" || desc.typeName === "google.protobuf.Value") return true
  return desc.fields.some(
    (each) => each.message !== undefined && reaches(each.message, (inner) => inner === desc),
  )
}

/** Every object or list counts one level; the message itself is level 0. Iterative, so that depth cannot break it. */
function checkDepth(message: object, maximum: number): void {
  let level: object[] = [message]
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > maximum) throw limitExceeded("depth", depth, maximum)
    const next: object[] = []
    for (const each of level) {
      for (const value of Array.isArray(each) ? each : Object.values(each)) {
        if (typeof value === "object" && value !== null && !(value instanceof Uint8Array)) next.push(value)
      }
    }
    level = next
  }
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
