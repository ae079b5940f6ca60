/** Real text: passages out of this repository's documentation and that of its dependencies. */
import { globSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("../../", import.meta.url))
const SOURCES = [
  "*.md",
  "docs/**/*.md",
  "src/**/*.md",
  "proto/**/*.proto",
  "node_modules/**/*.md",
  "node_modules/**/*.d.ts",
]

/** So many different passages of 60 to 600 characters, the same ones on the same tree. */
export function passages(count: number): readonly string[] {
  const found = new Set<string>()
  for (const pattern of SOURCES) {
    for (const file of globSync(pattern, { cwd: root }).sort()) {
      for (const text of passagesOf(readFileSync(`${root}${file}`, "utf8"), file)) {
        found.add(text)
        if (found.size >= count) return [...found]
      }
    }
  }
  throw new Error(`there are only ${found.size} passages`)
}

function passagesOf(text: string, file: string): readonly string[] {
  const prose = file.endsWith(".md")
    ? text
    : [...text.matchAll(/\/\*\*([\s\S]*?)\*\/|\/\/ (.*)/g)].map(([all]) => all).join("\n\n")
  return prose
    .split(/\n\s*\n/)
    .map((part) => part.replace(/[\s*/]+/g, " ").trim())
    .filter((part) => part.length >= 60)
    .map((part) => part.slice(0, 600))
}
