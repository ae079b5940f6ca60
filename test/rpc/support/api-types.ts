/** Every message type that callers send or get. */
import { readdirSync } from "node:fs"
import { join } from "node:path"
import type { DescMessage, DescService } from "@bufbuild/protobuf"
import { EchoRequestDesc, EchoResponseDesc } from "./probe.ts"

const generated = join(import.meta.dirname, "../../../src/gen")
const folders = ["keelplane/v1", "grpc/health/v1", "grpc/reflection/v1"]

async function servicesIn(folder: string): Promise<DescService[]> {
  const found: DescService[] = []
  for (const file of readdirSync(join(generated, folder))) {
    const exported: Record<string, unknown> = await import(join(generated, folder, file))
    for (const each of Object.values(exported)) {
      if ((each as { kind?: string }).kind === "service") found.push(each as DescService)
    }
  }
  return found
}

/** The services of the API, with health and reflection. */
export const services: readonly DescService[] = (await Promise.all(folders.map(servicesIn))).flat()

function byName(types: readonly DescMessage[]): DescMessage[] {
  return [...new Map(types.map((each) => [each.typeName, each])).values()]
}

/** What callers send. */
export const requestTypes: readonly DescMessage[] = byName([
  ...services.flatMap(({ methods }) => methods.map(({ input }) => input)),
  EchoRequestDesc,
])

/** What callers get. */
export const answerTypes: readonly DescMessage[] = byName([
  ...services.flatMap(({ methods }) => methods.map(({ output }) => output)),
  EchoResponseDesc,
])
