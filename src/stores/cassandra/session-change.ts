/** Changes of one session by many callers in one conditional batch: read the head, decide in order, write. */
import { randomUUID } from "node:crypto"
import type { Session as Conversation, MessageDraft } from "../../domain/event/session-model.ts"
import type { Clock } from "../../domain/kernel/clock.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { Outcome } from "../group-commit.ts"
import { type AnswerRow, type NewAnswer, type Repeatable, Repetitions, requestKeys } from "./answers.ts"
import type { Cluster } from "./database.ts"
import type { SessionIndex } from "./session-index.ts"
import { readHead } from "./session-list.ts"
import {
  insertAnswer,
  insertMessage,
  type PlacedMessage,
  type SessionHead,
  selectAnswers,
  touchHead,
  writeHead,
} from "./session-rows.ts"
import { nextStamp, settle, untilApplied } from "./stamp.ts"

/** What a change comes to. */
export interface Changed {
  /** The session as it is then; the same object where nothing changes. */
  readonly session: Conversation
  readonly messages?: readonly MessageDraft[]
  readonly answer: unknown
}

/** One caller's change. */
export interface SessionItem extends Repeatable {
  readonly sessionId: string
  /** Names the port's method. */
  readonly operation: string
  readonly bytes: number
  /** Decides. `before` is undefined where there is no such session; throws what the caller is refused with. */
  apply(before: Conversation | undefined, now: number): Changed
}

/** Most heads that are remembered, and how large the texts of one may be. */
const REMEMBERED = 5_000
const REMEMBERED_BYTES = 2_048

/** Runs the changes of sessions. */
export class SessionChanges {
  readonly #cql: Cluster
  readonly #index: SessionIndex
  readonly #clock: Clock
  /** Heads as this daemon left them; the next change goes out without a look. Where they are not so any more it is not applied. */
  readonly #heads = new Map<string, SessionHead>()

  constructor(cql: Cluster, index: SessionIndex, clock: Clock) {
    this.#cql = cql
    this.#index = index
    this.#clock = clock
  }

  /** One outcome per item, in order. Repetitions answer what the first call answered. */
  async run(scope: CallScope, items: readonly SessionItem[]): Promise<readonly Outcome<unknown>[]> {
    const [first] = items
    if (first === undefined) return []
    const { sessionId } = first
    const key = `${scope.tenant} ${sessionId}`
    let known = this.#heads.get(key)
    this.#heads.delete(key)
    let again = false
    const decided = await untilApplied(scope, async () => {
      const remembered = known && (await this.#attempt(scope, sessionId, items, known))
      // Only a write proves that a remembered head still holds: what comes to nothing is decided again.
      if (remembered?.after !== undefined) return remembered
      // Answers are looked for after the head: what a head has seen must be seen of them too, on whichever node.
      const serial =
        again || known !== undefined || items.some(({ idempotency }) => idempotency !== undefined)
      again = true
      known = undefined
      const head = await readHead(this.#cql, scope, sessionId, serial)
      return this.#attempt(scope, sessionId, items, head)
    })
    return this.#end(key, decided)
  }

  #end(key: string, { outcomes, after }: Decided): readonly Outcome<unknown>[] {
    if (after?.session !== undefined && weight(after.session) <= REMEMBERED_BYTES) {
      const [oldest] = this.#heads.keys()
      if (this.#heads.size >= REMEMBERED && oldest !== undefined) this.#heads.delete(oldest)
      this.#heads.set(key, after)
    }
    return outcomes
  }

  /** Undefined when another daemon was faster. */
  async #attempt(
    scope: CallScope,
    sessionId: string,
    items: readonly SessionItem[],
    head: SessionHead,
  ): Promise<Decided | undefined> {
    const now = this.#clock.now()
    const keys = requestKeys(items, ({ operation }) => operation)
    const kept = await this.#answers(scope, sessionId, keys)
    const repeated = new Repetitions<SessionItem, unknown>(items, kept, now, ({ operation }) => operation)
    const course = new Course(head, now)
    const outcomes = repeated.fresh.map((item) => course.take(item))
    const answers = repeated.answers(outcomes, now)
    // An answer is only ever kept of something that has a session.
    if (course.session === undefined || (!course.changed && answers.length === 0)) {
      return { outcomes: repeated.outcomes(outcomes) }
    }
    const after = await this.#write(scope, course, course.session, answers)
    return after && { outcomes: repeated.outcomes(outcomes), after }
  }

  async #answers(
    scope: CallScope,
    sessionId: string,
    keys: readonly string[],
  ): Promise<readonly AnswerRow[]> {
    if (keys.length === 0) return []
    return this.#cql.read<AnswerRow>(scope, selectAnswers(scope.tenant, sessionId, keys))
  }

  /** The head as it is then; undefined when another daemon was faster. */
  async #write(
    scope: CallScope,
    course: Course,
    session: Conversation,
    answers: readonly NewAnswer[],
  ): Promise<SessionHead | undefined> {
    const { head, era } = course
    const { sessionId } = session
    const { tenant } = scope
    const sooner = !course.opened && session.expireMs < head.remindMs
    if (course.opened) await this.#index.file(scope, session, era)
    else if (sooner) await this.#index.remind(scope, session, era)
    const stamp = nextStamp(head)
    const remindMs = course.opened || sooner ? session.expireMs : head.remindMs
    const write = { tenant, session, era, expected: head.version, stamp, remindMs }
    const touches = !course.opened && !sooner && session.revision === head.session?.revision
    const statements = [
      touches ? touchHead(write) : writeHead(write),
      ...course.messages.map((placed) => insertMessage(tenant, sessionId, placed)),
      ...answers.map((answer) => insertAnswer(tenant, sessionId, answer)),
    ]
    const fate = await settle(
      { expected: head.version, version: stamp.version },
      async () => (await this.#cql.cas(scope, statements)).applied,
      () => readHead(this.#cql, scope, sessionId, true),
    )
    if (fate === "lost") return undefined
    if (sooner) await this.#forget(scope, sessionId, head)
    return { ...stamp, era, session, remindMs }
  }

  /** The change is done; a reminder that stays finds nothing to do at its time. */
  async #forget(scope: CallScope, sessionId: string, { era, remindMs }: SessionHead): Promise<void> {
    await Promise.allSettled([this.#index.forget(scope, sessionId, era, remindMs)])
  }
}

/** What a group came to. */
interface Decided {
  readonly outcomes: readonly Outcome<unknown>[]
  /** The head as it was left; absent where nothing was written. */
  readonly after?: SessionHead
}

function weight({ state, metadata, title }: Conversation): number {
  return state.length + title.length + JSON.stringify(metadata).length
}

/** A session while the changes of a group are decided, one after the other. */
class Course {
  readonly head: SessionHead
  readonly messages: PlacedMessage[] = []
  era: string
  opened = false
  session: Conversation | undefined
  readonly #now: number

  constructor(head: SessionHead, now: number) {
    this.head = head
    this.era = head.era
    this.#now = now
    this.session = head.session !== undefined && head.session.expireMs > now ? head.session : undefined
  }

  get changed(): boolean {
    return this.session !== undefined && this.session !== this.head.session
  }

  take(item: SessionItem): Outcome<unknown> {
    try {
      const { session, messages = [], answer } = item.apply(this.session, this.#now)
      if (this.session === undefined) {
        this.opened = true
        this.era = randomUUID()
      }
      this.session = session
      const first = session.messageRevision - BigInt(messages.length) + 1n
      for (const [at, message] of messages.entries()) {
        const sequence = first + BigInt(at)
        this.messages.push({ era: this.era, sequence, createdMs: session.activeMs, message })
      }
      return { ok: true, value: answer }
    } catch (error) {
      return { ok: false, error }
    }
  }
}
