import type { MethodInfo } from "../compile.ts"
import type { Interceptor } from "./step.ts"

/** Decodes the one message of a unary or server-streaming call and holds it against depth limit and field rules. */
export function validation(): Interceptor {
  return {
    name: "validation",
    compile(method: MethodInfo) {
      // Messages of a request stream pass the same function one by one, as the handler takes them.
      if (method.kind === "client_streaming" || method.kind === "bidi_streaming") return undefined
      const { accept } = method
      return {
        enter(call) {
          call.request = accept(call.raw)
        },
      }
    },
  }
}
