/** Rules over the API that buf does not know, read off the descriptors. */
import assert from "node:assert/strict"
import { globSync } from "node:fs"
import { before, test } from "node:test"
import { fileURLToPath } from "node:url"
import {
  type DescMessage,
  type DescMethod,
  type DescService,
  getOption,
  ScalarType,
} from "@bufbuild/protobuf"
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt"
import { rpc } from "../../src/gen/keelplane/v1/options_pb.ts"

const root = fileURLToPath(new URL("../../", import.meta.url))

/** Lists that are answered whole, with the reason. */
const WITHOUT_PAGES: Readonly<Record<string, string>> = {
  "CacheService.ListPush": "it pushes onto a list; nothing is listed",
  "CacheService.ListPop": "it pops from a list; nothing is listed",
  "CacheService.ListTrim": "it trims a list; nothing is listed",
  "CacheService.ListRange": "a range by index is its own page, as every user of lists knows it",
}

/** Mutations without request_id, with the reason. */
const WITHOUT_REQUEST_ID: Readonly<Record<string, string>> = {
  "ControlService.VerifyApiKey":
    "a read that is not called one: calls without side effects may be sent as GET, and a token must not stand in a URL",
}

let services: readonly DescService[] = []

before(async () => {
  const modules = globSync("src/gen/keelplane/v1/*_service_pb.ts", { cwd: root }).map(
    (path) => import(`${root}${path}`) as Promise<Record<string, unknown>>,
  )
  services = (await Promise.all(modules)).flatMap((module) =>
    Object.values(module).filter(
      (value): value is DescService => (value as { kind?: string } | undefined)?.kind === "service",
    ),
  )
  assert.ok(services.length >= 11)
})

function methods(): readonly { readonly name: string; readonly method: DescMethod }[] {
  return services.flatMap((service) =>
    service.methods.map((method) => ({ name: `${service.name}.${method.name}`, method })),
  )
}

const field = (message: DescMessage, name: string) => message.fields.find((each) => each.name === name)

const isScalar = (message: DescMessage, name: string, scalar: ScalarType) => {
  const found = field(message, name)
  return found?.fieldKind === "scalar" && found.scalar === scalar
}

const namesWhere = (condition: (method: DescMethod, name: string) => boolean) =>
  methods()
    .filter(({ method, name }) => condition(method, name))
    .map(({ name }) => name)

test("every RPC names its permission", () => {
  const permission = /^(memory|event|cache|control|admin)\.(read|write|admin)$/
  assert.deepEqual(
    namesWhere((method) => !permission.test(getOption(method, rpc).permission)),
    [],
  )
})

test("every RPC is documented by messages of its own", () => {
  const seen = new Map<string, string>()
  for (const { name, method } of methods()) {
    for (const message of [method.input, method.output]) {
      const before = seen.get(message.typeName)
      assert.equal(before, undefined, `${message.typeName} serves both ${before} and ${name}`)
      seen.set(message.typeName, name)
    }
  }
})

test("every unary RPC says whether it may be repeated", () => {
  assert.deepEqual(
    namesWhere(
      (method) =>
        method.methodKind === "unary" &&
        method.idempotency === MethodOptions_IdempotencyLevel.IDEMPOTENCY_UNKNOWN,
    ),
    [],
  )
})

test("every mutation takes a request_id, and no read does", () => {
  const mutates = (method: DescMethod) =>
    method.methodKind === "unary" && method.idempotency === MethodOptions_IdempotencyLevel.IDEMPOTENT
  const missing = namesWhere(
    (method) => mutates(method) && !isScalar(method.input, "request_id", ScalarType.STRING),
  )
  assert.deepEqual(
    missing.sort(),
    Object.keys(WITHOUT_REQUEST_ID).sort(),
    "an exception needs a reason, and a reason needs an exception",
  )
  const reads = (method: DescMethod) => method.idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS
  assert.deepEqual(
    namesWhere((method) => reads(method) && field(method.input, "request_id") !== undefined),
    [],
  )
})

test("every list has pages", () => {
  const missing = namesWhere(
    (method) =>
      /^(List|Query)/.test(method.name) &&
      !(
        isScalar(method.input, "page_size", ScalarType.INT32) &&
        isScalar(method.input, "page_token", ScalarType.STRING) &&
        isScalar(method.output, "next_page_token", ScalarType.STRING)
      ),
  )
  assert.deepEqual(missing.sort(), Object.keys(WITHOUT_PAGES).sort())
})

test("no request carries a deadline or a tenant: they come with the call", () => {
  const named = /^(timeout|deadline|timeout_ms|deadline_ms|tenant)$/
  assert.deepEqual(
    namesWhere((method) =>
      method.input.fields.some(({ name, fieldKind }) => fieldKind !== "message" && named.test(name)),
    ),
    [],
  )
})
