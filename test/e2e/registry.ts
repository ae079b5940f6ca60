/** Every RPC of the API, found in the generated code, and how to call one with proto JSON over gRPC. */
import { readdirSync } from "node:fs"
import { type DescFile, type DescMethod, fromJson, type JsonValue, toJson } from "@bufbuild/protobuf"
import type { Channel } from "../support/grpc-client.ts"
import type { Seen, Step } from "./scenario.ts"

const generated = new URL("../../src/gen/keelplane/v1/", import.meta.url)

async function load(): Promise<Map<string, DescMethod>> {
  const methods = new Map<string, DescMethod>()
  for (const name of readdirSync(generated).sort()) {
    const module = (await import(new URL(name, generated).href)) as Record<string, unknown>
    for (const exported of Object.values(module)) {
      const file = exported as DescFile
      if (file?.kind !== "file") continue
      for (const service of file.services) {
        for (const method of service.methods) methods.set(`${service.name}/${method.name}`, method)
      }
    }
  }
  return methods
}

/** Descriptors by `Service/Method`. */
export const METHODS: ReadonlyMap<string, DescMethod> = await load()

/** The descriptor of `Service/Method`. */
export function methodOf(rpc: string): DescMethod {
  const method = METHODS.get(rpc)
  if (!method) throw new Error(`${rpc} is not in the API`)
  return method
}

type Streaming = (input: unknown, options?: { timeoutMs?: number }) => unknown

/**
 * Makes a step's call and answers what came, as proto JSON: one message, or the list of a stream's messages.
 * @param frames how many messages of a stream to take; default all.
 */
export async function invoke(
  channel: Channel,
  rpc: string,
  request: JsonValue,
  frames?: number,
): Promise<JsonValue> {
  const method = methodOf(rpc)
  const input = (json: JsonValue) => fromJson(method.input, json)
  const output = (message: unknown) => toJson(method.output, message as never)
  async function* requests() {
    for (const json of Array.isArray(request) ? request : [request]) yield input(json)
  }
  const stub = channel.stub(method.parent) as unknown as Record<string, Streaming>
  const invokeMethod = stub[method.localName]
  if (!invokeMethod) throw new Error(`no stub for ${rpc}`)
  switch (method.methodKind) {
    case "unary":
      return output(await channel.unary(method, input(request)))
    case "client_streaming":
      return output(await invokeMethod(requests()))
    default: {
      const answers = (
        method.methodKind === "server_streaming"
          ? channel.stream(method, input(request))
          : invokeMethod(requests())
      ) as AsyncIterable<unknown>
      const taken: JsonValue[] = []
      for await (const answer of answers) {
        taken.push(output(answer))
        if (frames !== undefined && taken.length >= frames) break
      }
      return taken
    }
  }
}

/** Runs a step, keeps what later steps need, and answers what came. */
export async function play(channel: Channel, step: Step, seen: Seen): Promise<JsonValue> {
  const answer = await invoke(channel, step.rpc, step.request(seen), step.frames)
  step.keep?.(answer as Record<string, JsonValue>, seen)
  return answer
}
