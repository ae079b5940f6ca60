/** Real text for the demo: this repository's own documentation, protos and source, cut into passages. */
import { readdirSync, readFileSync, statSync } from "node:fs"
import { join, relative } from "node:path"

/** A piece of a file. */
export interface Passage {
  /** `path#line`, unique. */
  readonly id: string
  readonly text: string
  readonly path: string
  /** 1-based number of the first line. */
  readonly line: number
  readonly kind: "documentation" | "proto" | "source"
}

const PASSAGE_LINES = 30

function* files(folder: string): Generator<string> {
  for (const name of readdirSync(folder).sort()) {
    if (name === "node_modules" || name === "gen" || name === "third_party" || name.startsWith(".")) continue
    const path = join(folder, name)
    if (statSync(path).isDirectory()) yield* files(path)
    else if (/\.(md|proto|ts)$/.test(name)) yield path
  }
}

function kindOf(path: string): Passage["kind"] {
  if (path.endsWith(".md")) return "documentation"
  return path.endsWith(".proto") ? "proto" : "source"
}

/** Cuts at blank lines, so that a passage is a paragraph or a declaration with its comment, up to a number of lines. */
function* cut(path: string, text: string): Generator<Passage> {
  const lines = text.split("\n")
  let first = 0
  for (let index = 0; index <= lines.length; index++) {
    const size = index - first
    const atEnd = index === lines.length
    const atBreak = lines[index] === "" && size >= PASSAGE_LINES / 2
    if (!atEnd && !atBreak && size < PASSAGE_LINES) continue
    const passage = lines.slice(first, index).join("\n").trim()
    if (passage.length > 40) {
      yield { id: `${path}#${first + 1}`, text: passage, path, line: first + 1, kind: kindOf(path) }
    }
    first = index
  }
}

/** All passages of the repository at `root`. */
export function corpus(root: string): Passage[] {
  const passages: Passage[] = []
  for (const folder of ["docs", "proto", "src"]) {
    for (const path of files(join(root, folder))) {
      passages.push(...cut(relative(root, path), readFileSync(path, "utf8")))
    }
  }
  passages.push(...cut("README.md", readFileSync(join(root, "README.md"), "utf8")))
  return passages
}
