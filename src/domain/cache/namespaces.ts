/** The namespaces a daemon knows: the built-in ones and those of its configuration. */
import { DomainError } from "../kernel/errors.ts"
import type { CacheKind, Namespace, NamespacePolicy } from "./model.ts"

/** The namespace meant by an empty name. */
export const DEFAULT_NAMESPACE = "default"

/** Longest hash, list or sorted set where a policy says nothing. */
export const MAXIMUM_LENGTH = 100_000

const SECOND = 1_000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE
const MEBIBYTE = 1_048_576

/** Built in; a configured namespace of the same name replaces one of these as a whole. */
export const BUILT_IN_NAMESPACES: Readonly<Record<string, NamespacePolicy>> = {
  [DEFAULT_NAMESPACE]: {},
  // What an agent is doing now: fields that are written as it goes.
  context: { kind: "hash", defaultTtlMs: HOUR, refreshOnWrite: true },
  // Answers of tools, kept while they are asked for.
  "tool-results": {
    kind: "value",
    defaultTtlMs: 30 * MINUTE,
    capacityEntries: 10_000,
    capacityBytes: 64 * MEBIBYTE,
  },
  // The last things said.
  "short-term-memory": { kind: "list", defaultTtlMs: 2 * HOUR, maximumLength: 100, refreshOnWrite: true },
  // Counters of the last minutes.
  metrics: { kind: "hash", defaultTtlMs: 5 * MINUTE, refreshOnWrite: true },
  // A user's session: stays while it is used.
  session: { kind: "hash", defaultTtlMs: 8 * HOUR, refreshOnRead: true, refreshOnWrite: true },
}

/** 1 to 63 of a-z, 0-9, `-`, `_`, `.`, beginning with a letter or digit. */
export const NAMESPACE_NAME = /^[a-z0-9][a-z0-9_.-]{0,62}$/

/** Looks up namespaces by name. */
export class Namespaces {
  readonly #byName = new Map<string, Namespace>()
  readonly #default: Namespace

  /** @param configured by name; the configuration has checked names and values. */
  constructor(configured: Readonly<Record<string, NamespacePolicy>> = {}) {
    for (const [name, policy] of Object.entries({ ...BUILT_IN_NAMESPACES, ...configured })) {
      this.#byName.set(name, complete(name, policy))
    }
    this.#default = this.resolve(DEFAULT_NAMESPACE)
  }

  /** The namespace for any kind of key. Raises NOT_FOUND, naming the known ones. */
  resolve(name: string): Namespace {
    if (name === "") return this.#default
    const found = this.#byName.get(name)
    if (found !== undefined) return found
    const known = [...this.#byName.keys()].sort().join(", ")
    throw new DomainError("NOT_FOUND", `cache namespace "${name}" is not configured; known: ${known}`, {
      metadata: { resource: "cache namespace", name, known },
    })
  }

  /** The namespace for keys of one kind. Raises NOT_FOUND, or WRONG_TYPE where it takes another kind. */
  resolveFor(name: string, kind: CacheKind): Namespace {
    const namespace = this.resolve(name)
    if (namespace.kind === "any" || namespace.kind === kind) return namespace
    throw wrongType("cache namespace", namespace.name, namespace.kind, kind)
  }

  /** All namespaces by name. */
  list(): readonly Namespace[] {
    return [...this.#byName.values()].sort((left, right) => (left.name < right.name ? -1 : 1))
  }
}

function complete(name: string, policy: NamespacePolicy): Namespace {
  return {
    name,
    kind: policy.kind ?? "any",
    defaultTtlMs: policy.defaultTtlMs ?? Number.POSITIVE_INFINITY,
    maximumLength: policy.maximumLength ?? MAXIMUM_LENGTH,
    capacityEntries: policy.capacityEntries ?? Number.POSITIVE_INFINITY,
    capacityBytes: policy.capacityBytes ?? Number.POSITIVE_INFINITY,
    refreshOnRead: policy.refreshOnRead ?? false,
    refreshOnWrite: policy.refreshOnWrite ?? false,
  }
}

/** WRONG_TYPE for what is there and what the operation works on. */
export function wrongType(resource: string, name: string, kind: string, expected: string): DomainError {
  return new DomainError(
    "WRONG_TYPE",
    `${resource} "${name}" holds ${label(kind)}, and the operation works on ${label(expected)}`,
    { metadata: { resource, name, kind, expected } },
  )
}

function label(kind: string): string {
  const labels: Readonly<Record<string, string>> = {
    value: "a value",
    hash: "a hash",
    list: "a list",
    sortedSet: "a sorted set",
    integer: "a whole number",
    number: "a number",
  }
  return labels[kind] ?? kind
}
