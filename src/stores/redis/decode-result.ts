/** Answers of the operations script as results and failures of the domain. */
import { wrongType } from "../../domain/cache/namespaces.ts"
import type {
  KeyState,
  Operation,
  OperationResults,
  Outcome,
  ResultOf,
} from "../../domain/cache/operations.ts"
import { DomainError, limitExceeded, revisionMismatch } from "../../domain/kernel/errors.ts"
import { type Answer, asBytes, asList, asNumber, asText } from "./answers.ts"
import { decodeValue, FORM_NAMES, numeric } from "./values.ts"

type Parts = readonly Answer[]

const ABSENT: KeyState = { revision: 0n, expireTimeMs: Number.POSITIVE_INFINITY }

/** A moment of expiry, empty for none. */
export function momentOf(answer: Answer | undefined): number {
  const text = asText(answer)
  return text === "" ? Number.POSITIVE_INFINITY : Number(text)
}

function state(parts: Parts, at: number): KeyState {
  return { revision: BigInt(asText(parts[at])), expireTimeMs: momentOf(parts[at + 1]) }
}

const isTrue = (answer: Answer | undefined): boolean => asText(answer) === "1"
const values = (parts: Parts) => parts.map((part) => decodeValue(asBytes(part)))

function increment(parts: Parts): OperationResults["increment"] {
  return {
    applied: isTrue(parts[0]),
    sum: numeric(asText(parts[1]), asText(parts[2])),
    ...state(parts, 3),
  }
}

/** Groups of `size` parts each. */
function groups(parts: Parts, size: number): readonly Parts[] {
  return Array.from({ length: parts.length / size }, (_, index) =>
    parts.slice(index * size, (index + 1) * size),
  )
}

function hashGet(parts: Parts, all: boolean): OperationResults["hashGet"] {
  if (parts.length === 0) return { ...ABSENT, found: false, fields: [], length: 0 }
  const found = groups(parts.slice(3), 3)
  // The server keeps no order; places say in which one the fields were made.
  const ordered = all ? [...found].sort((left, right) => asNumber(left[1]) - asNumber(right[1])) : found
  return {
    ...state(parts, 0),
    found: true,
    fields: ordered.map(([name, , value]) => ({ name: asText(name), value: decodeValue(asBytes(value)) })),
    length: asNumber(parts[2]),
  }
}

function sortedSetRange(parts: Parts): OperationResults["sortedSetRange"] {
  if (parts.length === 0) return { ...ABSENT, found: false, members: [], length: 0 }
  return {
    ...state(parts, 0),
    found: true,
    members: groups(parts.slice(3), 3).map(([member, score, rank]) => ({
      member: asText(member),
      score: asNumber(score),
      rank: asNumber(rank),
    })),
    length: asNumber(parts[2]),
  }
}

type Decode<K extends Operation["kind"]> = (
  parts: Parts,
  operation: Extract<Operation, { kind: K }>,
) => OperationResults[K]

const DECODE: { readonly [K in Operation["kind"]]: Decode<K> } = {
  get: (parts) =>
    parts.length === 0
      ? undefined
      : { ...decodeValue(asBytes(parts[0])), ...state(parts, 1), tags: parts.slice(3).map(asText) },
  set: (parts) => ({ applied: isTrue(parts[0]), ...state(parts, 1) }),
  delete: (parts) => isTrue(parts[0]),
  increment,
  expire: (parts) => ({ found: isTrue(parts[0]), ...state(parts, 1) }),
  hashSet: (parts) => ({ ...state(parts, 0), created: asNumber(parts[2]), length: asNumber(parts[3]) }),
  hashGet: (parts, { names }) => hashGet(parts, names.length === 0),
  hashDelete: (parts) => ({ deleted: asNumber(parts[0]), length: asNumber(parts[1]) }),
  hashIncrement: increment,
  listPush: (parts) => ({ ...state(parts, 0), length: asNumber(parts[2]), dropped: asNumber(parts[3]) }),
  listRange: (parts) =>
    parts.length === 0
      ? { ...ABSENT, found: false, values: [], length: 0 }
      : { ...state(parts, 0), found: true, values: values(parts.slice(3)), length: asNumber(parts[2]) },
  listPop: (parts) => ({ values: values(parts.slice(1)), length: asNumber(parts[0]) }),
  listTrim: (parts) => ({ length: asNumber(parts[0]), dropped: asNumber(parts[1]) }),
  sortedSetAdd: (parts) => ({
    ...state(parts, 0),
    added: asNumber(parts[2]),
    updated: asNumber(parts[3]),
    length: asNumber(parts[4]),
  }),
  sortedSetRange,
  sortedSetRemove: (parts) => ({ removed: asNumber(parts[0]), length: asNumber(parts[1]) }),
  sortedSetIncrement: (parts) => ({
    ...state(parts, 0),
    score: asNumber(parts[2]),
    rank: asNumber(parts[3]),
  }),
}

/** One operation's end. */
export function decodeOutcome<O extends Operation>(answer: Answer | undefined, operation: O): Outcome<O> {
  const [word, ...parts] = asList(answer)
  if (asText(word) === "err") return { ok: false, error: decodeFailure(parts) }
  // The table pairs each kind with its own function, which the compiler cannot follow through the union.
  const decode = DECODE[operation.kind] as (parts: Parts, operation: Operation) => unknown
  return { ok: true, result: decode(parts, operation) as ResultOf<O> }
}

/** A failure that a script told as a word and its particulars. */
export function decodeFailure(parts: Parts): DomainError {
  const [word = "", first = "", second = "", third = ""] = parts.map(asText)
  switch (word) {
    case "type":
      return wrongType("cache key", first, FORM_NAMES[second] ?? second, third)
    case "revision":
      return revisionMismatch("cache key", first, BigInt(second), BigInt(third))
    case "limit":
      return limitExceeded(first, Number(second), Number(third))
    case "overflow":
      return new DomainError("FAILED_PRECONDITION", `the sum under "${first}" does not fit ${second}`, {
        metadata: { resource: "cache key", name: first, state: "overflow" },
      })
    default:
      return new DomainError("INTERNAL", "internal error", {
        cause: new TypeError(`unknown failure ${word}`),
      })
  }
}

/** The failure of one operation of an atomic call. */
export function atIndex(error: DomainError, index: number): DomainError {
  return new DomainError(error.reason, `operations[${index}]: ${error.message}; nothing was done`, {
    metadata: { ...error.metadata, operation: String(index) },
    violations: error.violations.map(({ field, description }) => ({
      field: `operations[${index}].${field}`,
      description,
    })),
    cause: error,
  })
}

/** REQUEST_ID_REUSED. */
export function requestIdReused(requestId: string): DomainError {
  return new DomainError("REQUEST_ID_REUSED", "the request_id was used with another body; choose a new one", {
    metadata: { request_id: requestId },
  })
}
