/**
 * Writes what is made from code: config.schema.json, docs/configuration.md, docs/errors.md,
 * docs/compatibility.md. With --check it writes nothing
 * and fails when one of them is stale.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { configurationPage } from "../src/config/document.ts"
import { configJsonSchema } from "../src/config/schema.ts"
import { compatibilityPage } from "./compatibility.ts"
import { errorsPage } from "./errors-page.ts"

const root = dirname(dirname(fileURLToPath(import.meta.url)))

/** Every generated file with the content it must have. */
export function generatedFiles(): ReadonlyMap<string, string> {
  const proto = readFileSync(join(root, "proto/keelplane/v1/error_reason.proto"), "utf8")
  return new Map([
    ["config.schema.json", `${JSON.stringify(configJsonSchema(), null, 2)}\n`],
    ["docs/configuration.md", configurationPage()],
    ["docs/errors.md", errorsPage(proto)],
    ["docs/compatibility.md", compatibilityPage()],
  ])
}

/** The generated files that do not have the content they must have. */
export function staleFiles(): readonly string[] {
  return [...generatedFiles()].flatMap(([name, content]) => {
    const path = join(root, name)
    return existsSync(path) && readFileSync(path, "utf8") === content ? [] : [name]
  })
}

if (import.meta.main) {
  const stale = staleFiles()
  if (process.argv.includes("--check")) {
    if (stale.length > 0) {
      console.error(`stale: ${stale.join(", ")}; run node scripts/docs.ts`)
      process.exitCode = 1
    }
  } else {
    const files = generatedFiles()
    for (const name of stale) writeFileSync(join(root, name), files.get(name) ?? "")
    console.log(stale.length === 0 ? "nothing to do" : `wrote ${stale.join(", ")}`)
  }
}
