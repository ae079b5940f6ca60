/** The scripts of the cache store, whole. Each is one text that never changes, so that the server keeps it compiled. */
import { COMMANDS } from "./commands.ts"
import { HASHES } from "./hashes.ts"
import { RUN_SCRIPT } from "./json.ts"
import { LISTS } from "./lists.ts"
import { NUMBERS } from "./numbers.ts"
import { INVALIDATE_TAGS, OPERATIONS, RUN_OPERATIONS } from "./operations.ts"
import { SORTED_SETS } from "./sorted-sets.ts"
import { SPACE } from "./space.ts"
import { VALUES } from "./values.ts"

const STORE = SPACE + NUMBERS + VALUES + HASHES + LISTS + SORTED_SETS + OPERATIONS

/** Runs operations: see ./space for KEYS and ./operations for ARGV. */
export const OPERATIONS_SCRIPT = STORE + RUN_OPERATIONS

/** Gives tags a new version. */
export const INVALIDATE_TAGS_SCRIPT = STORE + INVALIDATE_TAGS

/** A registered script around which the store's own code stands; the script sees none of that code's names. */
export function registeredScript(source: string): string {
  return `local user_script = function(KEYS, ARGV, redis)\n${source}\nend\n${STORE}${COMMANDS}${RUN_SCRIPT}`
}
