/** Runs scripts in Lua 5.4 (compiled to WebAssembly): each in a fresh state, within limits, to its end or to nothing. */
import type { LuaEngine, LuaFactory } from "wasmoon"
import type { ScriptCall } from "../../domain/cache/ports.ts"
import { checkScriptCall } from "../../domain/cache/scripts.ts"
import { DomainError, notFound } from "../../domain/kernel/errors.ts"
import type { JsonValue } from "../../domain/kernel/json.ts"
import { LUA_PRELUDE } from "./lua-prelude.ts"
import { RedisCommands } from "./redis-commands.ts"
import type { PreparedScript, ScriptRunner } from "./scripts.ts"
import type { Space } from "./space.ts"

/** Bounds of one run. The daemon answers nobody else while a script runs. */
export interface LuaLimits {
  readonly maxInstructions: number
  readonly maxMs: number
  readonly maxMemoryBytes: number
}

/** What holds unless bootstrap says otherwise. */
export const LUA_LIMITS: LuaLimits = {
  maxInstructions: 5_000_000,
  maxMs: 250,
  maxMemoryBytes: 8 * 1_048_576,
}

type Runtime = typeof import("wasmoon")
type LuaModule = Awaited<ReturnType<LuaFactory["getLuaModule"]>>

interface Loaded {
  readonly runtime: Runtime
  readonly module: LuaModule
}

/** See the file's comment. The runtime is loaded by the first script that is run. */
export class LuaScripts implements ScriptRunner {
  readonly #sources: ReadonlyMap<string, string>
  readonly #limits: LuaLimits
  #loading: Promise<Loaded> | undefined

  /** @param sources Lua text by the name that RunScript takes. */
  constructor(sources: Readonly<Record<string, string>>, limits: LuaLimits = LUA_LIMITS) {
    this.#sources = new Map(Object.entries(sources))
    this.#limits = limits
  }

  async prepare(name: string): Promise<PreparedScript> {
    const source = this.#sources.get(name)
    if (source === undefined) throw notFound("script", name)
    this.#loading ??= load()
    const loaded = await this.#loading
    return (space, call, nowMs) => {
      checkScriptCall(call)
      return this.#run(loaded, source, space, call, nowMs)
    }
  }

  #run(
    { runtime, module }: Loaded,
    source: string,
    space: Space,
    call: ScriptCall,
    nowMs: number,
  ): JsonValue {
    const engine = new runtime.LuaEngine(module, {
      openStandardLibs: true,
      injectObjects: false,
      enableProxy: false,
      traceAllocations: true,
    })
    try {
      engine.global.setMemoryMax(this.#limits.maxMemoryBytes)
      return this.#runIn(engine, runtime, source, space, call, nowMs)
    } catch (error) {
      if (error instanceof DomainError) throw error
      throw failed(call.name, error instanceof Error ? firstLine(error.message) : "unknown error", error)
    } finally {
      engine.global.close()
    }
  }

  #runIn(
    engine: LuaEngine,
    { LuaMultiReturn }: Runtime,
    source: string,
    space: Space,
    call: ScriptCall,
    nowMs: number,
  ): JsonValue {
    const { global } = engine
    const commands = new RedisCommands(space, call.keys, nowMs)
    const endMs = performance.now() + this.#limits.maxMs
    global.loadString(LUA_PRELUDE, "=prelude")
    global.pushValue((words: readonly string[]) => LuaMultiReturn.from(commands.call(words)))
    global.pushValue(() => performance.now() > endMs)
    global.pushValue(this.#limits.maxInstructions)
    global.runSync(3)
    global.set("KEYS", [...call.keys])
    global.set("ARGV", [...call.args])
    // The prelude left its runner on the stack; the script goes behind it as the argument.
    global.loadString(source, `=${call.name}`)
    const [ok, text] = global.runSync(1) as unknown as [boolean, string]
    if (!ok) throw failed(call.name, firstLine(text), undefined)
    return JSON.parse(text) as JsonValue
  }
}

async function load(): Promise<Loaded> {
  const runtime = await import("wasmoon")
  return { runtime, module: await new runtime.LuaFactory().getLuaModule() }
}

function failed(script: string, why: string, cause: unknown): DomainError {
  return new DomainError("SCRIPT_FAILED", `script "${script}" failed and left no effect: ${why}`, {
    metadata: { script },
    cause,
  })
}

function firstLine(text: string): string {
  return text.split("\n", 1)[0] ?? ""
}
