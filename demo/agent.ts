/** The demo's agent: everything it knows and does goes through keelplane. */
import { createHash, randomUUID } from "node:crypto"
import { AuditOutcome, AuditService } from "../src/gen/keelplane/v1/audit_service_pb.ts"
import { BillingService } from "../src/gen/keelplane/v1/billing_service_pb.ts"
import { CacheService } from "../src/gen/keelplane/v1/cache_service_pb.ts"
import { EventService } from "../src/gen/keelplane/v1/event_service_pb.ts"
import { JobService } from "../src/gen/keelplane/v1/job_service_pb.ts"
import { LockService } from "../src/gen/keelplane/v1/lock_service_pb.ts"
import { MemoryService, SearchMode } from "../src/gen/keelplane/v1/memory_service_pb.ts"
import { RateLimitService } from "../src/gen/keelplane/v1/rate_limit_service_pb.ts"
import { MessageRole, SessionService } from "../src/gen/keelplane/v1/session_service_pb.ts"
import type { Channel } from "../test/support/grpc-client.ts"
import type { Passage } from "./corpus.ts"
import type { Latencies } from "./latency.ts"

/** A retrieved passage. */
export interface Found {
  readonly id: string
  readonly score: number
  /** The line that fits the question best, cut to a screen's width. */
  readonly excerpt: string
}

const COLLECTION = "repository"
const AGENT = "librarian"
const CHUNK = 200
const ROLE_NAMES = new Map<number, string>(
  Object.entries(MessageRole).map(([name, value]) => [value, name.toLowerCase()]),
)

/** The line that has most of the question's words in it. */
function excerptOf(text: string, question: string): string {
  const words = question.toLowerCase().match(/[a-z_]{4,}/g) ?? []
  const hits = (line: string) => words.filter((word) => line.toLowerCase().includes(word)).length
  const lines = text.split("\n").map((line) => line.trim())
  const best = lines.reduce((best, line) => (hits(line) > hits(best) ? line : best), lines[0] ?? "")
  return best.slice(0, 110)
}

/** An agent over one channel, with fresh names, whose calls are timed. */
export function createAgent(channel: Channel, latencies: Latencies) {
  const memory = channel.stub(MemoryService)
  const events = channel.stub(EventService)
  const sessions = channel.stub(SessionService)
  const cache = channel.stub(CacheService)
  const limits = channel.stub(RateLimitService)
  const sessionId = `talk-${randomUUID().slice(0, 8)}`
  const stream = `agent-${sessionId}`
  let revision = 0n
  let questions = 0
  let cacheHits = 0

  /** Notes a fact in the agent's own stream; the expected revision makes a second writer impossible. */
  async function note(
    type: string,
    patch: Record<string, string | number>,
    data: Record<string, string> = {},
  ) {
    const answer = await latencies.time("event", "AppendEvents", () =>
      events.appendEvents({
        stream,
        expected: { case: "revision", value: revision },
        events: [{ type, data: { case: "json", value: data }, statePatch: patch }],
      }),
    )
    revision = answer.lastRevision
  }

  async function say(role: MessageRole, text: string): Promise<void> {
    await latencies.time("event", "AppendMessages", () =>
      sessions.appendMessages({
        sessionId,
        messages: [{ role, content: [{ part: { case: "text", value: text } }] }],
      }),
    )
  }

  async function retrieve(question: string): Promise<Found[]> {
    const { result } = await latencies.time("memory", "Search", () =>
      memory.search({
        collectionId: COLLECTION,
        query: { target: { case: "text", value: question }, mode: SearchMode.HYBRID, k: 3 },
      }),
    )
    return (result?.hits ?? []).map((hit) => ({
      id: hit.record?.id ?? "",
      score: hit.score,
      excerpt: excerptOf(hit.record?.text ?? "", question),
    }))
  }

  return {
    /** Tool results that came from the cache. */
    get cacheHits(): number {
      return cacheHits
    },

    /** Loads passages into a new collection; the daemon embeds them. */
    async learn(passages: readonly Passage[]): Promise<{ written: bigint; seconds: number }> {
      const started = performance.now()
      await latencies.time("memory", "CreateCollection", () =>
        memory.createCollection({ collection: { id: COLLECTION, embedder: "builtin-lexical-384" } }),
      )
      async function* chunks() {
        for (let index = 0; index < passages.length; index += CHUNK) {
          yield {
            collectionId: COLLECTION,
            records: passages.slice(index, index + CHUNK).map(({ id, text, path, line, kind }) => ({
              id,
              text,
              metadata: { path, line, kind },
            })),
          }
        }
      }
      const answer = await latencies.time("memory", "ImportRecords", () =>
        memory.importRecords(chunks(), { timeoutMs: 300_000 }),
      )
      if (answer.refused > 0n) throw new Error(`${answer.refused} passages were refused`)
      return { written: answer.written, seconds: (performance.now() - started) / 1000 }
    },

    /** Opens the session and the agent's stream. */
    async openSession(user: string): Promise<void> {
      await latencies.time("event", "CreateSession", () =>
        sessions.createSession({
          session: { sessionId, agentId: AGENT, userId: user, title: "About keelplane" },
        }),
      )
      await note("session.opened", { status: "listening", user, questions: 0 })
    },

    /** Answers a question by retrieval; the result is cached as a tool result, and all of it is noted. */
    async ask(question: string): Promise<Found[]> {
      questions++
      await say(MessageRole.USER, question)
      const limited = await latencies.time("cache", "CheckRateLimit", () =>
        limits.checkRateLimit({
          limits: [{ name: "retrieval", key: AGENT, limit: 100n, window: { seconds: 60n } }],
        }),
      )
      if (!limited.allowed) throw new Error("the agent asks too much")
      const key = createHash("sha256").update(question).digest("hex").slice(0, 32)
      const cached = await latencies.time("cache", "Get", () => cache.get({ namespace: "tool-results", key }))
      let found: Found[]
      if (cached.entry?.value.case === "text") {
        cacheHits++
        found = JSON.parse(cached.entry.value.value) as Found[]
      } else {
        found = await retrieve(question)
        await latencies.time("cache", "Set", () =>
          cache.set({
            namespace: "tool-results",
            key,
            value: { case: "text", value: JSON.stringify(found) },
            tags: [COLLECTION],
          }),
        )
      }
      await note("tool.called", { status: "answering", questions, last: question }, { tool: "retrieve", key })
      await say(MessageRole.ASSISTANT, `See ${found.map((each) => each.id).join(", ")}.`)
      return found
    },

    /** The last messages in order. */
    async transcript(last: number): Promise<string[]> {
      const { messages } = await latencies.time("event", "ListMessages", () =>
        sessions.listMessages({ sessionId, last }),
      )
      return messages.map((message) => {
        const part = message.content[0]?.part
        return `${(ROLE_NAMES.get(message.role) ?? "").padEnd(9)} ${part?.case === "text" ? part.value : ""}`
      })
    },

    /** The state folded from the events, now and at half of them. */
    async states() {
      const at = revision / 2n
      const now = await latencies.time("event", "GetStreamState", () => events.getStreamState({ stream }))
      const earlier = await latencies.time("event", "GetStreamState", () =>
        events.getStreamState({ stream, point: { case: "atRevision", value: at } }),
      )
      if (now.state?.questions === earlier.state?.questions)
        throw new Error("the earlier state is not earlier")
      return { now: now.state, earlier: earlier.state, at }
    },

    /** A job under a lock, usage against a budget, and an audit record; answers lines to print. */
    async settle(): Promise<string[]> {
      const jobs = channel.stub(JobService)
      const locks = channel.stub(LockService)
      const billing = channel.stub(BillingService)
      const audit = channel.stub(AuditService)
      const lines: string[] = []
      await latencies.time("event", "EnqueueJob", () =>
        jobs.enqueueJob({
          job: { queue: "summaries", payload: { kind: { case: "data", value: { sessionId } } } },
        }),
      )
      const claimed = await latencies.time("event", "ClaimJobs", () =>
        jobs.claimJobs({ workerId: AGENT, queues: ["summaries"], maxJobs: 1 }),
      )
      const job = claimed.jobs[0]
      if (!job) throw new Error("the job was not there to claim")
      const lock = await latencies.time("cache", "AcquireLock", () =>
        locks.acquireLock({ name: sessionId, ownerId: AGENT }),
      )
      const done = await latencies.time("event", "CompleteJob", () =>
        jobs.completeJob({
          jobId: job.job?.jobId ?? "",
          leaseToken: job.leaseToken,
          result: { kind: { case: "data", value: { questions } } },
        }),
      )
      await latencies.time("cache", "ReleaseLock", () =>
        locks.releaseLock({ name: sessionId, token: lock.token }),
      )
      lines.push(`job ${done.job?.jobId} done under fencing token ${lock.token}`)
      const usage = await latencies.time("control", "RecordUsage", () =>
        billing.recordUsage({
          events: Array.from({ length: questions }, (_, index) => ({
            eventId: `${sessionId}-${index}`,
            meter: "questions",
            quantity: "1",
            agentId: AGENT,
          })),
        }),
      )
      lines.push(`${usage.recordedCount} questions on the meter`)
      await latencies.time("event", "RecordAudit", () =>
        audit.recordAudit({
          records: [
            {
              actor: AGENT,
              action: "session.summarise",
              resourceType: "session",
              resourceId: sessionId,
              outcome: AuditOutcome.SUCCESS,
            },
          ],
        }),
      )
      const verified = await latencies.time("event", "VerifyAudit", () => audit.verifyAudit({}))
      lines.push(`audit chain ${verified.intact ? "intact" : "BROKEN"}, ${verified.recordsChecked} records`)
      await latencies.time("event", "EndSession", () =>
        sessions.endSession({ sessionId, reason: "answered" }),
      )
      return lines
    },
  }
}
