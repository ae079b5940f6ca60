/** The flows of the control plane over several stores, as its service calls them. */
import { isDeepStrictEqual } from "node:util"
import type { Clock } from "../kernel/clock.ts"
import { alreadyExists, DomainError } from "../kernel/errors.ts"
import type { JsonObject } from "../kernel/json.ts"
import type { Page, PageRequest } from "../kernel/paging.ts"
import {
  type CallScope,
  DEFAULT_TENANT,
  PLATFORM_TENANT,
  systemScope,
  type TenantId,
} from "../kernel/scope.ts"
import { isOver, type Saga } from "../saga/model.ts"
import type { SagaQuery, SagaStore } from "../saga/ports.ts"
import type { SagaRunner } from "../saga/runner.ts"
import { certificateOf } from "./certificate.ts"
import { DELETE_TENANT } from "./delete-tenant.ts"
import { ERASE_SUBJECT, sagaSubject } from "./erase-subject.ts"
import { type ErasureCertificate, type ErasureSubject, removalsOf, type TenantEraser } from "./erasure.ts"
import type { Agent, AgentFields } from "./model.ts"
import type { AgentStore, TenantStore } from "./ports.ts"
import { type AgentProvision, CREATE_AGENT, provisionInput } from "./provision-agent.ts"

/** How far a flow has come when its caller is answered. */
export interface FlowOutcome {
  /** Empty where no flow was needed. */
  readonly sagaId: string
  /** It goes on in the background. */
  readonly pending: boolean
}

/** What {@link ControlFlows} works on. */
export interface ControlFlowsDeps {
  readonly runner: SagaRunner
  readonly sagas: SagaStore
  readonly agents: AgentStore
  readonly tenants: TenantStore
  readonly erasers: readonly TenantEraser[]
  readonly clock: Clock
}

const RETENTION_MS = 30 * 86_400_000

/** See the file's comment. */
export class ControlFlows {
  readonly #deps: ControlFlowsDeps

  constructor(deps: ControlFlowsDeps) {
    this.#deps = deps
  }

  /** An agent with what it is to have; ALREADY_EXISTS and what the parts refuse, and then nothing of it is left. */
  async createAgent(
    scope: CallScope,
    id: string,
    fields: AgentFields,
    provision: AgentProvision,
  ): Promise<FlowOutcome & { readonly agent: Agent | undefined }> {
    const input = provisionInput(fields, provision)
    const saga = await this.#deps.runner.start(scope, { kind: CREATE_AGENT, subject: id, input })
    // Somebody else's that is under way: an agent with other fields is not the one that was asked for.
    if (!isDeepStrictEqual(saga.input, input)) throw alreadyExists("agent", id)
    const made = saga.steps.some(({ name, state }) => name === "agent" && state === "done")
    // A repeated request answers the saga of the first one, which may have another generated id.
    const agent = made ? await this.#deps.agents.get(scope, saga.subject) : undefined
    return { ...outcomeOf(saga), agent }
  }

  /**
   * Ends a tenant. NOT_FOUND, REVISION_MISMATCH, FAILED_PRECONDITION for the built-in one and, without `force`, for one that
   * holds anything.
   */
  async deleteTenant(
    scope: CallScope,
    id: string,
    force: boolean,
    ifRevision: bigint | undefined,
  ): Promise<
    FlowOutcome & { readonly deleted: bigint; readonly certificate: ErasureCertificate | undefined }
  > {
    const platform = forPlatform(scope)
    if (id === DEFAULT_TENANT || !force) {
      if (id !== DEFAULT_TENANT) await this.#refuseIfHeld(scope, id)
      const deleted = await this.#deps.tenants.delete(platform, id, false, ifRevision)
      return { sagaId: "", pending: false, deleted, certificate: undefined }
    }
    const input: JsonObject = ifRevision === undefined ? {} : { ifRevision: ifRevision.toString() }
    const saga = await this.#deps.runner.start(platform, { kind: DELETE_TENANT, subject: id, input })
    const gone = saga.steps.flatMap(({ result }) => removalsOf(result))
    const deleted = gone.reduce((sum, { count }) => sum + BigInt(count), 0n)
    return { ...outcomeOf(saga), deleted, certificate: certificateOf(saga) }
  }

  /** Erases a subject from every plane. */
  async eraseSubject(
    scope: CallScope,
    subject: ErasureSubject,
  ): Promise<FlowOutcome & { readonly certificate: ErasureCertificate | undefined }> {
    const request = { kind: ERASE_SUBJECT, subject: sagaSubject(subject), input: {} }
    const saga = await this.#deps.runner.start(scope, request)
    return { ...outcomeOf(saga), certificate: certificateOf(saga) }
  }

  /** NOT_FOUND. `platform` looks among the platform's own. */
  get(scope: CallScope, id: string, platform: boolean): Promise<Saga> {
    return this.#deps.sagas.get(platform ? forPlatform(scope) : scope, id)
  }

  /** Newest first. */
  list(scope: CallScope, query: SagaQuery, page: PageRequest, platform: boolean): Promise<Page<Saga>> {
    return this.#deps.sagas.list(platform ? forPlatform(scope) : scope, query, page)
  }

  /** Of any tenant. NOT_FOUND; FAILED_PRECONDITION unless it is stuck. */
  retry(scope: CallScope, id: string): Promise<Saga> {
    return this.#deps.sagas.retry(forPlatform(scope), id)
  }

  /** Goes on with what others left; answers how many flows it took. What takes long goes on after that until the scope ends. */
  work(scope: CallScope): Promise<number> {
    return this.#deps.runner.tick(scope)
  }

  /** Resolves when nothing that {@link work} has taken goes on any more. */
  settled(): Promise<void> {
    return this.#deps.runner.settled()
  }

  /** Removes flows that have long been over. */
  sweep(scope: CallScope, limit: number): Promise<number> {
    return this.#deps.sagas.sweep(scope, this.#deps.clock.now() - RETENTION_MS, limit)
  }

  /** The tenant's own database refuses by itself, in the transaction that deletes; this is for the other engines. */
  async #refuseIfHeld(scope: CallScope, id: string): Promise<void> {
    const within = { ...systemScope(id as TenantId, scope.signal), deadlineMs: scope.deadlineMs }
    for (const eraser of this.#deps.erasers) {
      if (!(await eraser.holds(within))) continue
      await this.#deps.tenants.get(forPlatform(scope), id)
      throw new DomainError(
        "FAILED_PRECONDITION",
        `tenant "${id}" still holds data; empty it, or delete with force`,
        { metadata: { resource: "tenant", name: id, state: "NOT_EMPTY" } },
      )
    }
  }
}

function outcomeOf(saga: Saga): FlowOutcome {
  return { sagaId: saga.id, pending: !isOver(saga) }
}

/** The caller's scope turned to the platform. Only for what a platform principal alone may ask for. */
function forPlatform(scope: CallScope): CallScope {
  return {
    tenant: PLATFORM_TENANT,
    actor: scope.actor,
    signal: scope.signal,
    deadlineMs: scope.deadlineMs,
    idempotency: scope.idempotency,
    trace: scope.trace,
  }
}
