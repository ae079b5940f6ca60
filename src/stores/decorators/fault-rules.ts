/**
 * Faults as text, for a variable or a file. Rules are separated by `;`, and the first that applies to a call decides:
 *
 *     <store>/<port>/<method> [nth=N | every=N | p=0.1] [times=N] <fault>
 *     call=N <fault>
 *
 * `*` stands for any name. `nth` and `every` count the calls that the rule matches, `call` counts all calls to stores. A fault is
 * one of `before` (nothing is done), `after` (it is done, and its answer is lost), `delay=MS` and `hang` (until the call ends).
 */

/** What happens to a call. */
export type Fault =
  | { readonly kind: "before" | "after" | "hang" }
  | { readonly kind: "delay"; readonly ms: number }

/** Which calls it happens to. */
export interface FaultRule {
  readonly store: string
  readonly port: string
  readonly method: string
  /** Of the calls it matches, or of all calls with `any`. */
  readonly when:
    | { readonly kind: "always" }
    | { readonly kind: "nth" | "every" | "call"; readonly n: number }
    | { readonly kind: "chance"; readonly p: number }
  /** How often it happens at the most. */
  readonly times: number
  readonly fault: Fault
}

const FAULTS = "before, after, hang or delay=<milliseconds>"

/** The rules in `text`; throws an Error that says which part is wrong. */
export function parseFaultRules(text: string): readonly FaultRule[] {
  return text
    .split(";")
    .map((rule) => rule.trim())
    .filter((rule) => rule !== "")
    .map(parseRule)
}

function parseRule(text: string): FaultRule {
  const words = text.split(/\s+/)
  const fault = parseFault(words.pop() ?? "", text)
  const path = words[0]?.includes("/") ? (words.shift() ?? "") : "*/*/*"
  const [store, port, method, ...more] = path.split("/")
  if (!store || !port || !method || more.length > 0) throw wrong(text, "needs <store>/<port>/<method>")
  let when: FaultRule["when"] = { kind: "always" }
  let times = Number.POSITIVE_INFINITY
  for (const word of words) {
    const [name, value = ""] = word.split("=")
    const number = Number(value)
    if (name === "p" && value !== "" && number >= 0 && number <= 1) when = { kind: "chance", p: number }
    else if (!Number.isSafeInteger(number) || number < 1) throw wrong(text, `does not take "${word}"`)
    else if (name === "nth" || name === "every" || name === "call") when = { kind: name, n: number }
    else if (name === "times") times = number
    else throw wrong(text, `does not take "${word}"`)
  }
  return { store, port, method, when, times, fault }
}

function parseFault(word: string, rule: string): Fault {
  if (word === "before" || word === "after" || word === "hang") return { kind: word }
  const ms = /^delay=(\d{1,8})$/.exec(word)?.[1]
  if (ms === undefined) throw wrong(rule, `must end with ${FAULTS}`)
  return { kind: "delay", ms: Number(ms) }
}

function wrong(rule: string, what: string): Error {
  return new Error(`the fault rule "${rule}" ${what}`)
}
