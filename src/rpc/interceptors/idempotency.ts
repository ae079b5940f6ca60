import { hash } from "node:crypto"
import { ScalarType } from "@bufbuild/protobuf"
import { invalidField } from "../../domain/kernel/errors.ts"
import { canonicalBytes } from "../canonical.ts"
import type { Interceptor } from "./step.ts"

/** Names the call after its request_id, so that the store can answer a repetition with the first result. */
export function idempotency(): Interceptor {
  return {
    name: "idempotency",
    compile(method) {
      const field = method.desc.input.fields.find((each) => each.name === "request_id")
      if (method.kind !== "unary" || field?.fieldKind !== "scalar" || field.scalar !== ScalarType.STRING) {
        return undefined
      }
      const canonical = canonicalBytes(method.desc.input, field.localName)
      return {
        enter(call) {
          const request = call.request as Readonly<Record<string, unknown>> | undefined
          const requestId = request?.[field.localName]
          if (request === undefined || typeof requestId !== "string" || requestId === "") return
          // Not every store could keep it.
          if (requestId.includes("\0")) throw invalidField("request_id", "must not contain the NUL character")
          const bodyHash = hash("sha256", canonical(request), "buffer")
          call.idempotency = { method: method.name, requestId, bodyHash }
        },
      }
    },
  }
}
