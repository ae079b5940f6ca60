/**
 * `npm run demo`: an agent's hour against a daemon of its own, over gRPC, on real input. It reads this repository, is asked
 * questions about it, remembers the conversation, and keeps its books. Ends with latencies per plane and the daemon's memory.
 */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { residentMiB } from "../bench/load.ts"
import { startDaemon } from "../test/support/daemon.ts"
import { createAgent } from "./agent.ts"
import { corpus } from "./corpus.ts"
import { Latencies } from "./latency.ts"

const root = dirname(dirname(fileURLToPath(import.meta.url)))

const QUESTIONS = [
  "what happens to a repeated request with the same request_id",
  "how does the daemon drain on SIGTERM",
  "row level security tenant in one round trip",
  "what does a lost revision race answer",
  "why does a fencing token only ever rise",
]

function heading(text: string): void {
  console.log(`\n${text}\n${"=".repeat(text.length)}`)
}

async function play(): Promise<void> {
  const dataDir = mkdtempSync(join(tmpdir(), "keelplane-demo-"))
  const started = performance.now()
  const daemon = await startDaemon({ dataDir })
  const channel = daemon.channel()
  const latencies = new Latencies()
  try {
    console.log(
      `daemon ready on ${daemon.address} after ${Math.round(daemon.readyMs)} ms, data in ${dataDir}`,
    )
    const agent = createAgent(channel, latencies)

    heading("Reading the repository into Memory")
    const passages = corpus(root)
    const imported = await agent.learn(passages)
    console.log(
      `${imported.written} passages from ${new Set(passages.map((each) => each.path)).size} files in ${imported.seconds.toFixed(1)} s`,
    )

    heading("Answering questions")
    await agent.openSession("Ada")
    for (const question of QUESTIONS) {
      console.log(`\n? ${question}`)
      for (const hit of await agent.ask(question)) {
        console.log(`  ${hit.score.toFixed(4)}  ${hit.id}`)
        console.log(`          ${hit.excerpt}`)
      }
    }
    // The same question again: the tool result comes from the cache.
    const again = QUESTIONS[0] ?? ""
    await agent.ask(again)
    console.log(`\nasked again: "${again}": ${agent.cacheHits} answer from the cache`)

    heading("The conversation, as it is kept")
    for (const line of await agent.transcript(4)) console.log(`  ${line}`)

    heading("The agent's state, now and earlier")
    const { now, earlier, at } = await agent.states()
    console.log(`now:            ${JSON.stringify(now)}`)
    console.log(`at revision ${String(at).padStart(3)}: ${JSON.stringify(earlier)}`)

    heading("Keeping the books")
    for (const line of await agent.settle()) console.log(`  ${line}`)

    heading("Latency by plane, seen by the client")
    console.log(latencies.table())
    const memory = residentMiB(daemon.process.pid ?? 0)
    console.log(
      `\ndaemon memory after the demo: ${Number.isNaN(memory) ? "not known on this system" : `${memory.toFixed(0)} MiB resident`}`,
    )
  } catch (error) {
    console.error(daemon.output().slice(-4000))
    throw error
  } finally {
    channel.close()
    const code = await daemon.end("SIGTERM")
    rmSync(dataDir, { recursive: true, force: true })
    console.log(
      `daemon drained, exit code ${code}; ${((performance.now() - started) / 1000).toFixed(1)} s in all`,
    )
    if (code !== 0) process.exitCode = 1
  }
}

await play()
