/** The credential of the local channel: a file with one token per line, re-read when it changes. */
import { createHash, timingSafeEqual } from "node:crypto"
import { readFileSync, statSync } from "node:fs"
import type { Logger } from "../../domain/kernel/logger.ts"
import { DEFAULT_TENANT, type TenantId } from "../../domain/kernel/scope.ts"
import type { Authenticator, Credential, Identity } from "./authenticator.ts"

const MIN_TOKEN_CHARS = 32
/** How stale the picture of the file may be. */
const CHECK_MS = 1000

/** How a token file is used. */
export interface TokenFileOptions {
  readonly path: string
  readonly logger: Logger
  /** Whose data the tokens give access to; the default tenant where nothing is said. */
  readonly tenant?: TenantId | undefined
  /** Whether its holders may act for any tenant. */
  readonly platform?: boolean | undefined
  /** For tests: when the file is looked at again. */
  readonly now?: (() => number) | undefined
}

/**
 * Accepts every token in the file, so that an old and a new one are valid together during a rotation. Throws where the file
 * cannot be read, is empty or has a token shorter than 32 characters. Later on a file that cannot be read or has a short token
 * leaves the last good tokens valid, for it may be half-written; one that was emptied revokes them all. Both are logged, once.
 */
export function tokenFileAuthenticator(options: TokenFileOptions): Authenticator {
  return new TokenFile(options)
}

class TokenFile implements Authenticator {
  readonly #options: TokenFileOptions
  readonly #identity: Identity
  readonly #now: () => number
  #hashes: readonly Buffer[]
  #version: string
  #checkedAt: number
  /** What was last found wrong; logged once, not at every look. */
  #fault: string | undefined

  constructor(options: TokenFileOptions) {
    this.#options = options
    this.#now = options.now ?? Date.now
    this.#identity = {
      id: "token",
      platform: options.platform ?? false,
      permissions: new Set(["*"]),
      tenant: options.tenant ?? DEFAULT_TENANT,
    }
    this.#version = version(options.path)
    this.#hashes = readTokens(options.path)
    if (this.#hashes.length === 0) throw new Error(`the token file ${options.path} has no token`)
    this.#checkedAt = this.#now()
  }

  authenticate(credential: Credential): Identity | undefined {
    const token = credential.bearer ?? credential.apiKey
    if (token === undefined) return undefined
    this.#refresh()
    const hash = sha256(token)
    let known = false
    // Every token is compared, whichever matches, so that timing tells nothing about the file.
    for (const each of this.#hashes) known = timingSafeEqual(each, hash) || known
    return known ? this.#identity : undefined
  }

  #refresh(): void {
    const now = this.#now()
    if (now - this.#checkedAt < CHECK_MS) return
    this.#checkedAt = now
    const { path, logger } = this.#options
    try {
      const current = version(path)
      if (current === this.#version) return
      this.#hashes = readTokens(path)
      this.#version = current
      this.#fault = undefined
      const tokens = this.#hashes.length
      if (tokens > 0) logger.info({ path, tokens }, "token file read again")
      else logger.warn({ path, tokens }, "the token file is empty: no token is valid any more")
    } catch (err) {
      const reason =
        err instanceof ShortToken ? err.message : ((err as NodeJS.ErrnoException).code ?? "unknown")
      if (this.#fault === reason) return
      this.#fault = reason
      logger.warn({ path, reason }, "the token file is not usable; the last tokens stay valid")
    }
  }
}

/** A token that could be guessed, or a line that is half-written. */
class ShortToken extends Error {
  constructor(path: string) {
    super(`the token file ${path} has a token shorter than ${MIN_TOKEN_CHARS} characters`)
  }
}

function version(path: string): string {
  const { mtimeMs, size, ino } = statSync(path)
  return `${ino}:${size}:${mtimeMs}`
}

function readTokens(path: string): readonly Buffer[] {
  const tokens = readFileSync(path, "utf8")
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "" && !line.startsWith("#"))
  if (tokens.some((token) => token.length < MIN_TOKEN_CHARS)) throw new ShortToken(path)
  return tokens.map(sha256)
}

function sha256(text: string): Buffer {
  return createHash("sha256").update(text).digest()
}
