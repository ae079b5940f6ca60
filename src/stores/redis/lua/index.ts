/** The scripts of the cache store, whole. Each is one text that never changes, so that the server keeps it compiled. */
import type { Operation } from "../../../domain/cache/operations.ts"
import { COMMANDS } from "./commands.ts"
import { HASHES } from "./hashes.ts"
import { RUN_SCRIPT } from "./json.ts"
import { LISTS } from "./lists.ts"
import { NUMBERS } from "./numbers.ts"
import { ENDINGS, INVALIDATE_TAGS, READ_COLLECTIONS, READING, RUN_OPERATIONS } from "./operations.ts"
import { SORTED_SETS } from "./sorted-sets.ts"
import { SPACE } from "./space.ts"
import { VALUES } from "./values.ts"

/** Parts of the store that a call may do without: a script makes its functions anew for each call, which is most of what it costs. */
interface Parts {
  readonly numbers: boolean
  readonly hashes: boolean
  readonly lists: boolean
  readonly sortedSets: boolean
}

const ALL: Parts = { numbers: true, hashes: true, lists: true, sortedSets: true }

function storeWith({ numbers, hashes, lists, sortedSets }: Parts): string {
  const words = [
    SPACE,
    numbers && NUMBERS,
    VALUES,
    hashes && HASHES,
    lists && LISTS,
    sortedSets && SORTED_SETS,
    READING,
    hashes && READ_COLLECTIONS.hashes,
    lists && READ_COLLECTIONS.lists,
    sortedSets && READ_COLLECTIONS.sortedSets,
    ENDINGS,
  ]
  return words.filter((text) => text !== false).join("")
}

const STORE = storeWith(ALL)

/** Which operations one of {@link OPERATIONS_SCRIPTS} runs. */
export type OperationsScript = "values" | "numbers" | "hashes" | "lists" | "sortedSets" | "all"

const NONE: Parts = { numbers: false, hashes: false, lists: false, sortedSets: false }

/** Run operations: see ./space for KEYS and ./operations for ARGV. `values` also does the chores. */
export const OPERATIONS_SCRIPTS: Readonly<Record<OperationsScript, string>> = {
  values: storeWith(NONE) + RUN_OPERATIONS,
  numbers: storeWith({ ...NONE, numbers: true }) + RUN_OPERATIONS,
  hashes: storeWith({ ...NONE, numbers: true, hashes: true }) + RUN_OPERATIONS,
  lists: storeWith({ ...NONE, lists: true }) + RUN_OPERATIONS,
  sortedSets: storeWith({ ...NONE, numbers: true, sortedSets: true }) + RUN_OPERATIONS,
  all: STORE + RUN_OPERATIONS,
}

const NEEDED: Readonly<Record<Operation["kind"], OperationsScript>> = {
  get: "values",
  set: "values",
  delete: "values",
  expire: "values",
  increment: "numbers",
  hashSet: "hashes",
  hashGet: "hashes",
  hashDelete: "hashes",
  hashIncrement: "hashes",
  listPush: "lists",
  listRange: "lists",
  listPop: "lists",
  listTrim: "lists",
  sortedSetAdd: "sortedSets",
  sortedSetRange: "sortedSets",
  sortedSetRemove: "sortedSets",
  sortedSetIncrement: "sortedSets",
}

/** The least script that runs all of these operations. */
export function scriptFor(operations: readonly Operation[]): OperationsScript {
  let needed: OperationsScript = "values"
  for (const { kind } of operations) {
    const own = NEEDED[kind]
    if (own === needed || own === "values") continue
    if (needed !== "values") return "all"
    needed = own
  }
  return needed
}

/** Gives tags a new version. */
export const INVALIDATE_TAGS_SCRIPT = storeWith(NONE) + INVALIDATE_TAGS

/**
 * Keeps what a call answered that was made of several steps. KEYS: the record of its request_id. ARGV: the answer, how long. Removing
 * what is not there yet lets a full server take it: what was done cannot be undone.
 */
export const KEEP_ANSWER_SCRIPT = `
redis.call("UNLINK", KEYS[1])
redis.call("SET", KEYS[1], ARGV[1], "PX", ARGV[2])
return { "ok" }
`

/** A registered script around which the store's own code stands; the script sees none of that code's names. */
export function registeredScript(source: string): string {
  return `local user_script = function(KEYS, ARGV, redis)\n${source}\nend\n${STORE}${COMMANDS}${RUN_SCRIPT}`
}
