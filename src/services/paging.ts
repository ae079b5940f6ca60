/** Page and resume tokens: opaque to callers, useless for anything but the call they came from. */
import { createCipheriv, createDecipheriv, createHash, randomBytes } from "node:crypto"
import type { Message } from "@bufbuild/protobuf"
import { DomainError, invalidField, type Reason } from "../domain/kernel/errors.ts"
import type { PageRequest } from "../domain/kernel/paging.ts"
import type { CallContext } from "../rpc/handler.ts"

/** The fields every List request has. */
export type PagedRequest = Message & { readonly pageSize: number; readonly pageToken: string }

/** Sizes in items; `defaultSize` stands in for 0 and `maxSize` for more. */
export interface PageSizes {
  readonly defaultSize: number
  readonly maxSize: number
}

const KEY_BYTES = 32
const NONCE_BYTES = 12
const TAG_BYTES = 16
const VERSION = 1
/** A cursor is a handful of sort keys; anything longer was not made here. */
const MAX_TOKEN_CHARS = 8192

/**
 * Seals cursors with AES-256-GCM. The tenant, the method and everything else the request says are bound in as associated
 * data, so that a token opens only for the same question asked by the same tenant.
 */
export class Pages {
  #key: Uint8Array | undefined

  /** Without a key, tokens are refused with STORE_UNAVAILABLE until {@link Pages.useKey} has been called. */
  constructor(key?: Uint8Array) {
    if (key !== undefined) this.useKey(key)
  }

  /** `key` has 32 bytes and stays the same across restarts, or every token in the field dies. */
  useKey(key: Uint8Array): void {
    if (key.byteLength !== KEY_BYTES) throw new Error(`the token key must have ${KEY_BYTES} bytes`)
    this.#key = key
  }

  /** The page a List request asks for. Throws INVALID_FIELD and INVALID_PAGE_TOKEN. */
  request(ctx: CallContext, request: PagedRequest, sizes: PageSizes): PageRequest {
    if (request.pageSize < 0) throw invalidField("page_size", "must not be negative")
    const size = request.pageSize === 0 ? sizes.defaultSize : Math.min(request.pageSize, sizes.maxSize)
    if (request.pageToken === "") return { size }
    const bound = bind(ctx, "page", digest(request))
    return { size, cursor: this.#open(request.pageToken, bound, "INVALID_PAGE_TOKEN", INVALID_PAGE) }
  }

  /** `next_page_token` for the cursor after this page; empty where there is none. */
  token(ctx: CallContext, request: PagedRequest, next: readonly string[] | undefined): string {
    return next === undefined ? "" : this.#seal(next, bind(ctx, "page", digest(request)))
  }

  /** A resume token of a stream. `kind` names the stream and everything the token must not outlive, e.g. `events:orders`. */
  seal(ctx: CallContext, kind: string, parts: readonly string[]): string {
    return this.#seal(parts, bind(ctx, "resume", kind))
  }

  /** What {@link seal} was given for the same tenant, method and kind. Throws INVALID_RESUME_TOKEN. */
  open(ctx: CallContext, kind: string, token: string): readonly string[] {
    return this.#open(token, bind(ctx, "resume", kind), "INVALID_RESUME_TOKEN", INVALID_RESUME)
  }

  #need(): Uint8Array {
    if (this.#key !== undefined) return this.#key
    // The key lives there, and that store has been away since the start.
    throw new DomainError("STORE_UNAVAILABLE", "the store control has not answered yet; try again", {
      metadata: { store: "control" },
    })
  }

  #seal(parts: readonly string[], bound: Uint8Array): string {
    const nonce = randomBytes(NONCE_BYTES)
    const cipher = createCipheriv("aes-256-gcm", this.#need(), nonce)
    cipher.setAAD(bound)
    const sealed = [cipher.update(JSON.stringify(parts), "utf8"), cipher.final()]
    return Buffer.concat([Buffer.of(VERSION), nonce, ...sealed, cipher.getAuthTag()]).toString("base64url")
  }

  #open(token: string, bound: Uint8Array, reason: Reason, message: string): readonly string[] {
    const bytes = Buffer.from(token.slice(0, MAX_TOKEN_CHARS), "base64url")
    const end = bytes.byteLength - TAG_BYTES
    const key = this.#need()
    const malformed = token.length > MAX_TOKEN_CHARS || bytes[0] !== VERSION || end < 1 + NONCE_BYTES
    // Decoding forgives stray characters; an altered token must not pass as the one it resembles.
    if (malformed || bytes.toString("base64url") !== token) throw new DomainError(reason, message)
    try {
      const decipher = createDecipheriv("aes-256-gcm", key, bytes.subarray(1, 1 + NONCE_BYTES), {
        authTagLength: TAG_BYTES,
      })
      decipher.setAAD(bound)
      decipher.setAuthTag(bytes.subarray(end))
      const text = Buffer.concat([decipher.update(bytes.subarray(1 + NONCE_BYTES, end)), decipher.final()])
      return JSON.parse(text.toString("utf8")) as string[]
    } catch (cause) {
      throw new DomainError(reason, message, { cause })
    }
  }
}

const INVALID_PAGE =
  "the page token is altered or belongs to another call; repeat the same arguments, or start without a token"
const INVALID_RESUME = "the resume token is altered or belongs to another stream; start without a token"

function bind(ctx: CallContext, use: string, rest: string): Uint8Array {
  return Buffer.from(JSON.stringify([VERSION, use, ctx.tenant, ctx.method, rest]))
}

/** Everything a request asks, without where in the answer it is: two requests with one digest list the same things. */
function digest(request: PagedRequest): string {
  const { pageSize: _size, pageToken: _token, ...rest } = request
  return createHash("sha256").update(canonical(rest)).digest("base64url")
}

/** One text per value: keys sorted, types that JSON lacks marked. */
function canonical(value: unknown): string {
  if (typeof value === "bigint") return `n${value}`
  if (value instanceof Uint8Array) return `b"${Buffer.from(value).toString("base64")}"`
  if (Array.isArray(value)) return `[${value.map(canonical).join()}]`
  if (typeof value === "object" && value !== null) {
    const entries = Object.entries(value).filter(([, each]) => each !== undefined)
    return `{${entries
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, each]) => `${JSON.stringify(key)}:${canonical(each)}`)
      .join()}}`
  }
  return typeof value === "number" ? `f${value}` : JSON.stringify(value)
}
