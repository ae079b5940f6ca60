import type { Config } from "../../config/schema.ts"
import { blame, openEngines } from "../engines/open.ts"
import { EXIT } from "./exit-codes.ts"

/** Applies what is missing in every store, or lists it; prints a line per migration. */
export async function migrate(config: Config, dryRun: boolean): Promise<number> {
  // A database that comes with its migrations would leave nothing to show.
  const engines = await openEngines(config, { bare: true })
  try {
    for (const { name, stores, schema } of engines) {
      if (schema === undefined) continue
      const files = await schema.migrate({ dryRun }).catch((cause: unknown) => {
        throw blame(config, stores, cause)
      })
      for (const { version, name: subject } of files) {
        process.stdout.write(
          `${name}: ${String(version).padStart(4, "0")} ${subject}${dryRun ? " (pending)" : ""}\n`,
        )
      }
      if (files.length === 0) process.stdout.write(`${name}: up to date\n`)
    }
  } finally {
    await Promise.all(engines.map((engine) => engine.close()))
  }
  return EXIT.ok
}
