/** A cluster that loses answers: the statement took place, and nobody is told. Real writes, real failures of the way back. */
import { DomainError } from "../../src/domain/kernel/errors.ts"
import type { Cluster, Statement } from "../../src/stores/cassandra/index.ts"

/** What goes wrong, and when. */
export interface Losses {
  /** Conditional writes whose answer gets lost after they were applied; counts down. */
  casAnswers: number
  /** Conditional writes that are lost on the way there; counts down. */
  casRequests: number
  /** Plain writes that are refused where this is in their text. */
  refuse: string
}

/** `cluster` with losses that can be changed while it runs. */
export function lossyCluster(cluster: Cluster): { readonly cql: Cluster; readonly losses: Losses } {
  const losses: Losses = { casAnswers: 0, casRequests: 0, refuse: "" }
  const refused = ({ cql }: Statement): boolean => losses.refuse !== "" && cql.includes(losses.refuse)
  const cql: Cluster = {
    read: (scope, statement, options) => cluster.read(scope, statement, options),
    pages: (scope, statement, options) => cluster.pages(scope, statement, options),
    write: async (scope, statement) => {
      if (refused(statement)) throw away()
      await cluster.write(scope, statement)
    },
    batch: async (scope, statements) => {
      if (statements.some(refused)) throw away()
      await cluster.batch(scope, statements)
    },
    cas: async (scope, statements) => {
      if (losses.casRequests > 0) {
        losses.casRequests--
        throw unknown()
      }
      const answer = await cluster.cas(scope, statements)
      if (losses.casAnswers === 0 || !answer.applied) return answer
      losses.casAnswers--
      throw unknown()
    },
  }
  return { cql, losses }
}

function away(): DomainError {
  return new DomainError("STORE_UNAVAILABLE", "the event store cannot be reached; nothing was applied")
}

function unknown(): DomainError {
  return new DomainError("OUTCOME_UNKNOWN", "the store did not say whether the change took place")
}

/**
 * What becomes of a conditional write. "late": nobody is told, and it reaches the servers right before the next one or on
 * {@link ScriptedCluster.arrive}; "lost": nobody is told, and it never arrives; "unanswered": nobody is told, and it took place;
 * "away": refused, with nothing applied; "fine": nothing is wrong.
 */
export type Fault = "late" | "lost" | "unanswered" | "away" | "fine"

/** See {@link scriptedCluster}. */
export interface ScriptedCluster {
  readonly cql: Cluster
  /** What becomes of the next conditional writes, first come, first served. All that follow are fine. */
  readonly faults: Fault[]
  /** Reads that are refused where this is in their text. */
  refuseReads: string
  /** Sends what was late until now. */
  arrive(): Promise<void>
}

/** `cluster` with a fate for each conditional write whose first statement begins with `which`. */
export function scriptedCluster(cluster: Cluster, which: string): ScriptedCluster {
  const late: (() => Promise<unknown>)[] = []
  const script: ScriptedCluster = {
    faults: [],
    refuseReads: "",
    arrive: async () => {
      for (const send of late.splice(0)) await send()
    },
    cql: {
      pages: (scope, statement, options) => cluster.pages(scope, statement, options),
      write: (scope, statement) => cluster.write(scope, statement),
      batch: (scope, statements) => cluster.batch(scope, statements),
      read: async (scope, statement, options) => {
        if (script.refuseReads !== "" && statement.cql.includes(script.refuseReads)) throw away()
        return cluster.read(scope, statement, options)
      },
      cas: async (scope, statements) => {
        const send = () => cluster.cas(scope, statements)
        const fault = statements[0]?.cql.startsWith(which) ? script.faults.shift() : "fine"
        if (fault === "late") late.push(send)
        if (fault === "late" || fault === "lost") throw unknown()
        if (fault === "away") throw away()
        await script.arrive()
        const answer = await send()
        if (fault === "unanswered") throw unknown()
        return answer
      },
    },
  }
  return script
}
