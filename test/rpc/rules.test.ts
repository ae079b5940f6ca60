/** What holds for every service that is shipped, read from the descriptors. */
import assert from "node:assert/strict"
import { readdirSync } from "node:fs"
import { join } from "node:path"
import { describe, it } from "node:test"
import { create, type DescService, getOption, hasOption } from "@bufbuild/protobuf"
import { createValidator } from "@bufbuild/protovalidate"
import { REASONS } from "../../src/domain/kernel/errors.ts"
import { ErrorReasonSchema } from "../../src/gen/keelplane/v1/error_reason_pb.ts"
import { rpc } from "../../src/gen/keelplane/v1/options_pb.ts"
import { createAcceptor } from "../../src/rpc/acceptor.ts"
import { DEFAULT_LIMITS } from "../../src/rpc/limits.ts"
import { codeOf } from "../../src/rpc/status.ts"

const folder = join(import.meta.dirname, "../../src/gen/keelplane/v1")
const services: DescService[] = []
for (const file of readdirSync(folder)) {
  const exported: Record<string, unknown> = await import(join(folder, file))
  for (const each of Object.values(exported)) {
    if ((each as { kind?: string }).kind === "service") services.push(each as DescService)
  }
}

describe("every service", () => {
  it("is found", () => assert.ok(services.length >= 11, `${services.length}`))

  for (const service of services) {
    it(`${service.name} has field rules that compile and permissions on every method`, () => {
      const validator = createValidator()
      for (const method of service.methods) {
        createAcceptor(method.input, validator, DEFAULT_LIMITS).warm()
        const name = `${service.name}/${method.name}`
        assert.ok(hasOption(method, rpc), name)
        assert.match(
          getOption(method, rpc).permission,
          /^(memory|event|cache|control|admin)\.(read|write|admin)$/,
          name,
        )
      }
    })
  }

  it("refuses an empty request or takes it, and never fails on it", () => {
    const validator = createValidator()
    for (const { input } of services.flatMap((each) => each.methods)) {
      assert.notEqual(validator.validate(input, create(input)).kind, "error", input.typeName)
    }
  })
})

describe("the error table", () => {
  it("has the same reasons in the proto and in the code", () => {
    const proto = ErrorReasonSchema.values.map(({ name }) => name.replace("ERROR_REASON_", ""))
    assert.deepEqual(proto.filter((name) => name !== "UNSPECIFIED").sort(), [...REASONS].sort())
    for (const reason of REASONS) assert.ok(codeOf(reason) >= 1 && codeOf(reason) <= 16, reason)
  })
})
