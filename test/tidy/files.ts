import { globSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("../../", import.meta.url))

/** A file of the tree. */
export interface SourceFile {
  /** From the top of the tree, with `/`. */
  readonly path: string
  readonly text: string
  readonly lines: readonly string[]
}

/** Files that match `pattern`, without what is generated, vendored or installed. */
export function filesMatching(...patterns: readonly string[]): readonly SourceFile[] {
  return globSync([...patterns], { cwd: root })
    .filter((path) => !/(^|\/)(node_modules|dist|third_party|gen)\//.test(path))
    .sort()
    .map((path) => {
      const text = readFileSync(`${root}${path}`, "utf8")
      return { path, text, lines: text.split("\n") }
    })
}

/** Everything that is imported, exported from or loaded lazily by a file, as written. */
export function importsOf({ text }: SourceFile): readonly string[] {
  const code = text.replace(/\/\*[\s\S]*?\*\//g, "").replace(/^\s*\/\/.*$/gm, "")
  return [...code.matchAll(/(?:\bfrom|\bimport)\s*\(?\s*"([^"]+)"/g)].map(([, name = ""]) => name)
}

/** `path` of a relative import, from the top of the tree. */
export function resolveImport(from: string, name: string): string {
  return new URL(name, `file:///${from}`).pathname.slice(1)
}
