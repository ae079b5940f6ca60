/** How long functions are, read off the indentation, which the formatter guarantees. */
import type { SourceFile } from "./files.ts"

/** One function. */
export interface FunctionLength {
  readonly path: string
  readonly line: number
  /** Lines from head to end, without those of functions inside. */
  readonly length: number
}

const HEAD = /(?:=> \{|\) \{|\): [^=]+ \{|[\w>\]] \{)$/
const NO_FUNCTION =
  /^\s*(?:\} )?(?:if|for|while|switch|catch|else|try|do|class|interface|type|export (?:abstract )?(?:class|interface|type))\b/

/** Every function of a file. */
export function functionLengths({ path, lines }: SourceFile): readonly FunctionLength[] {
  const open: { indent: number; line: number; inner: number }[] = []
  const result: FunctionLength[] = []
  for (const [index, line] of lines.entries()) {
    const indent = line.search(/\S/)
    const top = open.at(-1)
    if (top !== undefined && indent === top.indent && /^\s*[})\]]/.test(line)) {
      open.pop()
      const total = index - top.line + 1
      result.push({ path, line: top.line + 1, length: total - top.inner })
      const outer = open.at(-1)
      if (outer !== undefined) outer.inner += total
    }
    if (isHead(line)) open.push({ indent, line: index, inner: 0 })
  }
  return result
}

function isHead(line: string): boolean {
  if (!HEAD.test(line) || NO_FUNCTION.test(line) || /^\s*(?:\/\/|\*)/.test(line)) return false
  return /=>|\bfunction\b|\)\s*(?::.*)?\{$/.test(line)
}
