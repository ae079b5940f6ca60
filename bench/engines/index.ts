/** The engines that can be compared. */
import { writeFileSync } from "node:fs"
import { cpus, loadavg, totalmem } from "node:os"
import { cassandra } from "./cassandra.ts"
import { compare, type Effort } from "./compare.ts"
import type { Engine } from "./engine.ts"
import { milvus } from "./milvus.ts"
import { postgres } from "./postgres.ts"
import { redis } from "./redis.ts"
import type { Verdict } from "./verdicts.ts"

/** By name. */
export const ENGINES: ReadonlyMap<string, Engine> = new Map(
  [redis, postgres, cassandra, milvus].map((engine) => [engine.name, engine]),
)

/** Compares the named engines, one after the other, and says on what machine. */
export async function compareAll(
  names: readonly string[],
  effort: Effort,
  { only, json }: { readonly only: string; readonly json?: string },
): Promise<void> {
  const chosen = [...ENGINES].filter(([name]) => names.includes(name) || names.includes("all"))
  console.log(
    `${cpus()[0]?.model ?? "unknown processor"}, ${cpus().length} cores, ${Math.round(totalmem() / 2 ** 30)} GiB, Node ${process.version}; load ${loadavg()[0]?.toFixed(1)} before; ${effort.rounds} rounds of ${effort.durationMs} ms; servers and load generator share the machine`,
  )
  const told: Record<string, readonly Verdict[]> = {}
  for (const [name, engine] of chosen) told[name] = await compare(engine, effort, only)
  console.log(`\nload ${loadavg()[0]?.toFixed(1)} after`)
  if (json !== undefined)
    writeFileSync(json, `${JSON.stringify({ node: process.version, ...effort, told }, null, 2)}\n`)
}
