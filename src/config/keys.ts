/** What the schema says about each key, read from its JSON Schema: for environment variables, flags and documentation. */
import { configJsonSchema } from "./schema.ts"

/** The part of JSON Schema that the configuration uses. */
export interface SchemaNode {
  readonly type?: string
  readonly description?: string
  readonly default?: unknown
  readonly enum?: readonly unknown[]
  readonly const?: unknown
  readonly minimum?: number
  readonly maximum?: number
  readonly properties?: Readonly<Record<string, SchemaNode>>
  readonly additionalProperties?: SchemaNode | false
  readonly anyOf?: readonly SchemaNode[]
  readonly oneOf?: readonly SchemaNode[]
  readonly required?: readonly string[]
}

let root: SchemaNode | undefined

/** The configuration's JSON Schema, made once. */
export function schemaRoot(): SchemaNode {
  root ??= configJsonSchema() as SchemaNode
  return root
}

/** The forms that a node may take; a node without alternatives is its own only form. */
export function formsOf(node: SchemaNode): readonly SchemaNode[] {
  return node.anyOf ?? node.oneOf ?? [node]
}

/** The node at `path`, or undefined where the schema has none. Entries of maps match any name. */
export function nodeAt(path: readonly string[]): SchemaNode | undefined {
  let nodes: readonly SchemaNode[] = [schemaRoot()]
  for (const part of path) {
    nodes = nodes.flatMap(formsOf).flatMap((node) => {
      const next = node.properties?.[part] ?? (node.additionalProperties || undefined)
      return next === undefined ? [] : [next]
    })
  }
  return nodes[0]
}

/** True for sections: a value that is made of further keys fixed by the schema. */
export function isSection(node: SchemaNode): boolean {
  return formsOf(node).some((form) => form.properties !== undefined)
}

/** True where plain text is among the accepted forms, so that text from a variable must not be read as a number. */
export function takesText(node: SchemaNode): boolean {
  return formsOf(node).some(
    (form) =>
      form.type === "string" ||
      typeof form.const === "string" ||
      form.enum?.some((e) => typeof e === "string"),
  )
}

/** The nearest known name to a misspelt one, for error messages. */
export function nearest(name: string, known: readonly string[]): string | undefined {
  let best: { name: string; distance: number } | undefined
  for (const candidate of known) {
    const distance = editDistance(name, candidate)
    if (
      distance <= Math.max(name.length > 3 ? 2 : 1, Math.floor(name.length / 3)) &&
      distance < (best?.distance ?? Infinity)
    ) {
      best = { name: candidate, distance }
    }
  }
  return best?.name
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const replaced = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(replaced, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1))
    }
    row = next
  }
  return row[b.length] ?? 0
}
