/** Glob patterns over keys and topics. They match the whole text, never backtrack exponentially, and know no path separators. */
import { invalidField } from "../kernel/errors.ts"

type Part =
  | { readonly kind: "one"; readonly character: string }
  | { readonly kind: "any" }
  | { readonly kind: "run" }
  | {
      readonly kind: "class"
      readonly negated: boolean
      readonly ranges: readonly (readonly [string, string])[]
    }

/**
 * A test for texts: `*` any run, `?` any one character, `[a-z]` and `[!a-z]` (or `[^a-z]`) a class, `\` escapes the next character.
 * Raises INVALID_FIELD naming `field` for an unclosed class or a trailing backslash.
 */
export function globMatcher(pattern: string, field: string): (text: string) => boolean {
  const parts = parse([...pattern], field)
  const [first, ...rest] = parts
  if (first?.kind === "run" && rest.length === 0) return () => true
  return (text) => matches(parts, [...text])
}

function parse(pattern: readonly string[], field: string): readonly Part[] {
  const parts: Part[] = []
  for (let at = 0; at < pattern.length; at++) {
    const character = pattern[at] ?? ""
    if (character === "*") {
      if (parts.at(-1)?.kind !== "run") parts.push({ kind: "run" })
    } else if (character === "?") parts.push({ kind: "any" })
    else if (character === "[") {
      const { part, end } = parseClass(pattern, at, field)
      parts.push(part)
      at = end
    } else if (character === "\\") {
      const next = pattern[++at]
      if (next === undefined) throw invalidField(field, `ends in a backslash at position ${at - 1}`)
      parts.push({ kind: "one", character: next })
    } else parts.push({ kind: "one", character })
  }
  return parts
}

function parseClass(
  pattern: readonly string[],
  start: number,
  field: string,
): { readonly part: Part; readonly end: number } {
  let at = start + 1
  const negated = pattern[at] === "!" || pattern[at] === "^"
  if (negated) at++
  const ranges: [string, string][] = []
  for (let first = true; at < pattern.length; first = false, at++) {
    let low = pattern[at] ?? ""
    if (low === "]" && !first) return { part: { kind: "class", negated, ranges }, end: at }
    if (low === "\\" && at + 1 < pattern.length) low = pattern[++at] ?? ""
    const high = pattern[at + 2]
    if (pattern[at + 1] === "-" && high !== undefined && high !== "]") {
      ranges.push(low <= high ? [low, high] : [high, low])
      at += 2
    } else ranges.push([low, low])
  }
  throw invalidField(field, `has a "[" without "]" at position ${start}`)
}

/** Greedy with one step back to the last run, so at most text x pattern steps. */
function matches(parts: readonly Part[], text: readonly string[]): boolean {
  let part = 0
  let at = 0
  let run = -1
  let runAt = 0
  while (at < text.length) {
    const here = parts[part]
    if (here?.kind === "run") {
      run = part++
      runAt = at
    } else if (here !== undefined && fits(here, text[at] ?? "")) {
      part++
      at++
    } else if (run >= 0) {
      part = run + 1
      at = ++runAt
    } else return false
  }
  while (parts[part]?.kind === "run") part++
  return part === parts.length
}

function fits(part: Part, character: string): boolean {
  switch (part.kind) {
    case "one":
      return part.character === character
    case "class":
      return part.ranges.some(([low, high]) => character >= low && character <= high) !== part.negated
    default:
      return true
  }
}
