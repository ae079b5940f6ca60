/** The probe service: it obeys `act`, so that a test can make a handler answer late, hang, fail or look at its context. */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import {
  createFileRegistry,
  type DescMessage,
  type DescService,
  fromBinary,
  type Message,
} from "@bufbuild/protobuf"
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt"
import { DomainError, REASONS, revisionMismatch } from "../../../src/domain/kernel/errors.ts"
import type { CallContext, Service } from "../../../src/rpc/handler.ts"

const registry = createFileRegistry(
  fromBinary(FileDescriptorSetSchema, readFileSync(join(import.meta.dirname, "probe.binpb"))),
)

function found<T>(value: T | undefined): T {
  if (value === undefined) throw new Error("probe.binpb lacks a type")
  return value
}

export const ProbeDesc: DescService = found(registry.getService("keelplane.probe.v1.ProbeService"))
export const EchoRequestDesc: DescMessage = found(registry.getMessage("keelplane.probe.v1.EchoRequest"))
export const EchoResponseDesc: DescMessage = found(registry.getMessage("keelplane.probe.v1.EchoResponse"))
export const CountRequestDesc: DescMessage = found(registry.getMessage("keelplane.probe.v1.CountRequest"))

/** An EchoRequest as the tests write it. */
export interface Echo {
  requestId?: string
  text?: string
  act?: string
  blob?: Uint8Array
  data?: object
  labels?: Record<string, string>
}

/** What the handlers saw, for the tests to wait on. */
export class ProbeLog {
  /** Calls that have begun, and signals that were aborted, by the reason of the abort. */
  started = 0
  aborted: string[] = []
  /** Messages that a Count handler has handed over. */
  yielded = 0
  #waiters: { ready: () => boolean; resolve: () => void }[] = []

  changed(): void {
    this.#waiters = this.#waiters.filter(({ ready, resolve }) => {
      if (!ready()) return true
      resolve()
      return false
    })
  }

  /** Resolves when `ready` holds; the test's own timeout is the limit. */
  until(ready: () => boolean): Promise<void> {
    if (ready()) return Promise.resolve()
    return new Promise((resolve) => this.#waiters.push({ ready, resolve }))
  }
}

/** The service, writing into `log`. */
export function createProbe(log: ProbeLog): Service {
  const watch = (ctx: CallContext) => {
    ctx.signal.addEventListener("abort", () => {
      log.aborted.push((ctx.signal.reason as DomainError).reason)
      log.changed()
    })
    log.started++
    log.changed()
  }
  const echo = (request: Echo & Message, ctx: CallContext): unknown => {
    const act = request.act ?? ""
    if (act === "") return describe(request, ctx)
    if (act === "later") return new Promise((resolve) => setImmediate(() => resolve(describe(request, ctx))))
    watch(ctx)
    if (act === "hang") return new Promise(() => {})
    if (act === "heed") {
      return new Promise((_, reject) => {
        ctx.signal.addEventListener("abort", () =>
          reject(new DomainError("OUTCOME_UNKNOWN", "sent, no answer")),
        )
      })
    }
    if (act === "abort-error") {
      return new Promise((_, reject) => {
        ctx.signal.addEventListener("abort", () =>
          reject(new DOMException("The operation was aborted", "AbortError")),
        )
      })
    }
    return fail(act)
  }
  return {
    descriptor: ProbeDesc,
    handlers: {
      echo: echo as never,
      rule: echo as never,
      poll: echo as never,
      count: ((request: { count: number; act: string; blobBytes: number }, ctx: CallContext) => {
        watch(ctx)
        return count(request, ctx, log)
      }) as never,
      collect: (async (requests: AsyncIterable<Echo>, ctx: CallContext) => {
        watch(ctx)
        const texts: string[] = []
        for await (const each of requests) texts.push(each.text ?? "")
        return { text: texts.join("|"), number: texts.length }
      }) as never,
      chat: async function* (requests: AsyncIterable<Echo & Message>, ctx: CallContext) {
        watch(ctx)
        for await (const each of requests) yield each.act === "" ? { text: each.text } : fail(each.act ?? "")
      } as never,
    },
  }
}

async function* count(
  request: { count: number; act: string; blobBytes: number },
  ctx: CallContext,
  log: ProbeLog,
) {
  const blob = new Uint8Array(request.blobBytes)
  for (let number = 1; number <= request.count; number++) {
    log.yielded++
    yield { number, blob }
  }
  if (request.act === "then-fail") throw revisionMismatch("stream", "s", 1n, 2n)
  if (request.act === "then-hang") await new Promise(() => {})
  if (request.act === "then-wait") {
    await new Promise((_, reject) => ctx.signal.addEventListener("abort", () => reject(ctx.signal.reason)))
  }
}

function describe(request: Echo & Message, ctx: CallContext): object {
  ctx.setTrailer("x-probe", "seen")
  return {
    text: request.text,
    tenant: ctx.tenant,
    principal: ctx.principal.id,
    idempotency: ctx.idempotency ? Buffer.from(ctx.idempotency.bodyHash).toString("hex") : "",
    deadlineMs: Number.isFinite(ctx.deadlineMs) ? BigInt(ctx.deadlineMs - Date.now()) : -1n,
  }
}

function fail(act: string): never {
  const reason = REASONS.find((each) => each === act)
  if (reason !== undefined) {
    throw new DomainError(reason, `asked for ${reason}`, {
      metadata: { store: "probe" },
      violations: reason === "INVALID_FIELD" ? [{ field: "act", description: "asked for" }] : [],
    })
  }
  if (act === "surrogate") throw new DomainError("NOT_FOUND", "half a pair: \ud800 and a\nline")
  throw new Error(`secret driver text ${act}`)
}
