/**
 * What a contract suite asks that an engine cannot do, and why. The suites' registrations take their skips from here and
 * docs/compatibility.md is made from it, so that the page promises no more than the tests hold.
 */

/** One suite on one engine. */
export interface SuiteExceptions {
  readonly engine: string
  /** The suite's file in this folder, without its endings. */
  readonly suite: string
  /** Reasons by the names of tests. */
  readonly tests: Readonly<Record<string, string>>
}

const OWN_INDEX = "the server builds its indexes by itself and does not tell how far it is"
const NO_EXPECTATIONS = "the server compares nothing while it writes, so expectations are refused"
const OWN_EXPIRY =
  "the server frees windows by itself a minute after they are over, so that there is nothing to sweep"

const SWEEPS_WINDOWS = {
  "sweeps windows in which nothing happens any more, and no others": OWN_EXPIRY,
}

/** Every exception there is. */
export const EXCEPTIONS: readonly SuiteExceptions[] = [
  { engine: "Redis, Valkey", suite: "rate-limit", tests: SWEEPS_WINDOWS },
  {
    engine: "Milvus (DIRECT)",
    suite: "memory",
    tests: {
      "writes under an expectation or not at all": NO_EXPECTATIONS,
      "lets one of two writers of a revision win": NO_EXPECTATIONS,
      "shows nothing whose expiry has passed, swept or not":
        "it writes under an expectation; that what has expired is not seen has a test of its own",
      "refuses what the engine cannot do and what contradicts itself": "the server indexes 16000 dimensions",
    },
  },
  {
    engine: "Milvus (DIRECT)",
    suite: "memory-search",
    tests: {
      "FLAT never has an index, and the background gives one to those that are due": OWN_INDEX,
      ...Object.fromEntries(
        ["AUTO", "HNSW", "IVF_FLAT"].flatMap((kind) =>
          ["COSINE", "INNER_PRODUCT"].map((metric) => [
            `${kind} with ${metric}: an index changes no filtered answer, and new writes are seen`,
            OWN_INDEX,
          ]),
        ),
      ),
    },
  },
]

/** What a suite leaves out on an engine; nothing where no exception is named. */
export function exceptionsOf(engine: string, suite: string): Record<string, string> {
  return { ...EXCEPTIONS.find((each) => each.engine === engine && each.suite === suite)?.tests }
}

/** Why tests of PostgreSQL that are no part of a suite are left out on PGlite. */
export const PGLITE_SKIPS = {
  overlap: "PGlite has one connection: no two transactions overlap",
  timers: "PGlite has no timers; the caller is answered by its signal",
} as const
