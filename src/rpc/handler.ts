/**
 * The seam between transports and services. A handler is written once against protobuf-es messages; every transport runs
 * the same handlers behind the same interceptors.
 */
import type { DescMethod, DescService, MessageInitShape, MessageShape } from "@bufbuild/protobuf"
import type { CallScope } from "../domain/kernel/scope.ts"

/** Who calls: what the authentication interceptor found out from the credential. */
export interface Principal {
  /** `key:<id>`, `token` (local token file), `mtls:<name>` or `local` (loopback without configuration). */
  readonly id: string
  /** May act for any tenant and call platform-only RPCs. */
  readonly platform: boolean
  /** Permissions such as `cache.read`; `*` for all. A `<plane>.*` entry covers the plane. */
  readonly permissions: ReadonlySet<string>
}

/** What a handler knows about its call: the domain's scope and the caller. */
export interface CallContext extends CallScope {
  /** Full name, e.g. `keelplane.v1.CacheService/Get`. */
  readonly method: string
  /** The verified caller. */
  readonly principal: Principal
  /** A request header (lower-case name), first value. */
  header(name: string): string | undefined
  /** Adds a response trailer (lower-case ASCII name). */
  setTrailer(name: string, value: string): void
}

/** Either a value or a promise of it: a handler that need not wait must not make a promise. */
export type Awaitable<T> = T | Promise<T>

/** The handler's shape for one method of a service descriptor. */
export type Handler<M extends DescMethod> = M["methodKind"] extends "unary"
  ? (request: MessageShape<M["input"]>, ctx: CallContext) => Awaitable<MessageInitShape<M["output"]>>
  : M["methodKind"] extends "server_streaming"
    ? (request: MessageShape<M["input"]>, ctx: CallContext) => AsyncIterable<MessageInitShape<M["output"]>>
    : M["methodKind"] extends "client_streaming"
      ? (
          requests: AsyncIterable<MessageShape<M["input"]>>,
          ctx: CallContext,
        ) => Promise<MessageInitShape<M["output"]>>
      : (
          requests: AsyncIterable<MessageShape<M["input"]>>,
          ctx: CallContext,
        ) => AsyncIterable<MessageInitShape<M["output"]>>

/** All handlers of a service, by the local (camelCase) name of the method. */
export type Handlers<S extends DescService> = { readonly [K in keyof S["method"]]: Handler<S["method"][K]> }

/** A service as transports take it. */
export interface Service {
  readonly descriptor: DescService
  // The map is heterogeneous; transports call it by the descriptor's own method kind.
  readonly handlers: Readonly<Record<string, AnyHandler>>
  /** Who may call methods that name no permission: anybody, or (the default) anybody with a credential. */
  readonly access?: "public" | "authenticated" | undefined
}

/** A handler of any kind, as a transport sees it. */
export type AnyHandler = (request: never, ctx: CallContext) => unknown

/** Pairs a descriptor with its handlers; the compiler checks that none is missing or misshapen. */
export function service<S extends DescService>(descriptor: S, handlers: Handlers<S>): Service {
  return { descriptor, handlers: handlers as unknown as Readonly<Record<string, AnyHandler>> }
}
