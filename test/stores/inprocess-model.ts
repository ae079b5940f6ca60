/** A cache so plain that it is obviously right: arrays and maps, no expiry index, no order structure. For comparison only. */
import type { Operation } from "../../src/domain/cache/operations.ts"

type Stored =
  | { kind: "value"; text: string | bigint }
  | { kind: "hash"; fields: [string, string][] }
  | { kind: "list"; items: string[] }
  | { kind: "sortedSet"; members: [string, number][] }

interface Slot {
  readonly stored: Stored
  expireTimeMs: number
  readonly tags: readonly string[]
}

const WRONG = "WRONG_TYPE"

/** See the file's comment. Answers what {@link simplify} makes of the real answers. */
export class ModelCache {
  readonly slots = new Map<string, Slot>()
  nowMs = 0

  /** The answer, or the reason of the failure. */
  run(operation: Operation): unknown {
    const slot = this.#live(operation.key)
    switch (operation.kind) {
      case "get":
        if (slot === undefined) return undefined
        return slot.stored.kind === "value" ? slot.stored.text : WRONG
      case "set":
        if (operation.condition === "ifAbsent" && slot !== undefined) return false
        if (operation.condition === "ifPresent" && slot === undefined) return false
        this.#put(operation.key, { kind: "value", text: textOf(operation) }, operation, operation.tags)
        return true
      case "delete":
        return this.slots.delete(operation.key)
      case "expire":
        if (slot === undefined) return false
        slot.expireTimeMs = this.#expiry(operation)
        return true
      case "increment":
        return this.#increment(operation, slot)
      default:
        return this.#collection(operation, slot)
    }
  }

  /** Drops everything that carries the tag. */
  invalidate(tag: string): void {
    for (const [key, { tags }] of this.slots) if (tags.includes(tag)) this.slots.delete(key)
  }

  /** The keys that live, in order. */
  keys(): string[] {
    return [...this.slots.keys()].filter((key) => this.#live(key) !== undefined).sort()
  }

  #live(key: string): Slot | undefined {
    const slot = this.slots.get(key)
    if (slot !== undefined && slot.expireTimeMs <= this.nowMs) this.slots.delete(key)
    return this.slots.get(key)
  }

  #expiry({ expiration }: Operation & { expiration?: unknown }): number {
    const ttl = expiration as { ttlMs: number } | undefined
    return ttl === undefined ? Number.POSITIVE_INFINITY : this.nowMs + ttl.ttlMs
  }

  #put(key: string, stored: Stored, operation: Operation, tags: readonly string[] = []): void {
    this.slots.set(key, { stored, tags, expireTimeMs: this.#expiry(operation) })
  }

  #increment(operation: Extract<Operation, { kind: "increment" }>, slot: Slot | undefined): unknown {
    if (slot !== undefined && slot.stored.kind !== "value") return WRONG
    const before = slot?.stored.kind === "value" ? slot.stored.text : 0n
    if (typeof before === "string" && !/^-?\d+$/.test(before)) return WRONG
    const sum = BigInt(before) + BigInt(operation.addition.delta)
    if (slot === undefined) this.#put(operation.key, { kind: "value", text: sum }, operation)
    else this.slots.set(operation.key, { ...slot, stored: { kind: "value", text: sum } })
    return sum
  }

  #collection(operation: Operation, slot: Slot | undefined): unknown {
    switch (operation.kind) {
      case "hashSet":
      case "hashGet":
      case "hashDelete":
        return this.#hash(operation, slot)
      case "listPush":
      case "listRange":
      case "listPop":
      case "listTrim":
        return this.#list(operation, slot)
      case "sortedSetAdd":
      case "sortedSetRange":
      case "sortedSetRemove":
        return this.#sortedSet(operation, slot)
      default:
        throw new RangeError(`the model has no ${operation.kind}`)
    }
  }

  #hash(
    operation: Extract<Operation, { kind: "hashSet" | "hashGet" | "hashDelete" }>,
    slot: Slot | undefined,
  ): unknown {
    if (slot !== undefined && slot.stored.kind !== "hash") return WRONG
    const fields = slot?.stored.kind === "hash" ? slot.stored.fields : []
    switch (operation.kind) {
      case "hashGet":
        return fields.map((field) => [...field])
      case "hashSet":
        if (slot === undefined) this.#put(operation.key, { kind: "hash", fields }, operation)
        for (const { name, value } of operation.fields) {
          const field = fields.find(([known]) => known === name)
          if (field === undefined) fields.push([name, String(value.content.value)])
          else field[1] = String(value.content.value)
        }
        return fields.length
      case "hashDelete": {
        const left = fields.filter(([name]) => !operation.names.includes(name))
        const deleted = fields.length - left.length
        fields.splice(0, fields.length, ...left)
        if (left.length === 0) this.slots.delete(operation.key)
        return deleted
      }
    }
  }

  #list(
    operation: Extract<Operation, { kind: "listPush" | "listRange" | "listPop" | "listTrim" }>,
    slot: Slot | undefined,
  ): unknown {
    if (slot !== undefined && slot.stored.kind !== "list") return WRONG
    const items = slot?.stored.kind === "list" ? slot.stored.items : []
    switch (operation.kind) {
      case "listRange":
        return sliced(items, operation.start, operation.stop)
      case "listPush":
        if (slot === undefined) this.#put(operation.key, { kind: "list", items }, operation)
        for (const { content } of operation.values) {
          if (operation.end === "head") items.unshift(String(content.value))
          else items.push(String(content.value))
        }
        while (operation.maximumLength > 0 && items.length > operation.maximumLength) {
          if (operation.end === "head") items.pop()
          else items.shift()
        }
        return items.length
      case "listPop": {
        const popped: (string | undefined)[] = []
        while (popped.length < operation.count && items.length > 0) {
          popped.push(operation.end === "head" ? items.shift() : items.pop())
        }
        if (items.length === 0) this.slots.delete(operation.key)
        return popped
      }
      case "listTrim": {
        const kept = sliced(items, operation.start, operation.stop)
        items.splice(0, items.length, ...kept)
        if (kept.length === 0) this.slots.delete(operation.key)
        return kept.length
      }
    }
  }

  #sortedSet(
    operation: Extract<Operation, { kind: "sortedSetAdd" | "sortedSetRange" | "sortedSetRemove" }>,
    slot: Slot | undefined,
  ): unknown {
    if (slot !== undefined && slot.stored.kind !== "sortedSet") return WRONG
    const members = slot?.stored.kind === "sortedSet" ? slot.stored.members : []
    switch (operation.kind) {
      case "sortedSetRange": {
        const sorted = [...members].sort((a, b) => a[1] - b[1] || (a[0] < b[0] ? -1 : 1))
        if (operation.reverse) sorted.reverse()
        const ranked = sorted.map(([member, score], rank) => [member, score, rank] as const)
        if ("rank" in operation.by) {
          const { start, stop } = operation.by.rank
          return sliced(ranked, start, stop).slice(operation.offset, operation.offset + operation.limit)
        }
        const { minimum, maximum, minimumExclusive, maximumExclusive } = operation.by.score
        return ranked
          .filter(([, score]) => (minimumExclusive ? score > minimum : score >= minimum))
          .filter(([, score]) => (maximumExclusive ? score < maximum : score <= maximum))
          .slice(operation.offset, operation.offset + operation.limit)
      }
      case "sortedSetAdd":
        if (slot === undefined) this.#put(operation.key, { kind: "sortedSet", members }, operation)
        for (const { member, score } of operation.members) {
          const known = members.find(([name]) => name === member)
          if (known === undefined) members.push([member, score])
          else known[1] = score
        }
        return members.length
      case "sortedSetRemove": {
        const left = members.filter(([member]) => !operation.members.includes(member))
        const removed = members.length - left.length
        members.splice(0, members.length, ...left)
        if (left.length === 0) this.slots.delete(operation.key)
        return removed
      }
    }
  }
}

function textOf(operation: Extract<Operation, { kind: "set" }>): string {
  return String(operation.content.value)
}

function sliced<T>(items: readonly T[], start: number, stop: number): T[] {
  const from = start < 0 ? Math.max(0, items.length + start) : start
  const to = stop < 0 ? items.length + stop : stop
  return items.slice(from, Math.max(from, to + 1))
}
