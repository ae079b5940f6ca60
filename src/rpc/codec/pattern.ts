/** Patterns that mean the same to RE2, which protovalidate uses, and to the runtime's own engine, which is a lot faster. */

const ESCAPED = String.raw`\\(?:x[0-9a-fA-F]{2}|[.*+?()[\]{}|^$\\/])`
const CLASS = String.raw`\[\^?(?:[^\[\]\\^]|${ESCAPED})+\]`
const PORTABLE = new RegExp(
  String.raw`^\^(?:[\w :;,@%!#&=~"'<>/-]|${ESCAPED}|${CLASS}|[()|?*+]|\{\d+(?:,\d*)?\})*\$$`,
)
/** Groups of another kind, and repeated groups: these may take the runtime's engine time that grows with a power of the length. */
const COSTLY = /\(\?|\)[*+{]/
/** An unlimited repetition. */
const ENDLESS = new RegExp(`${ESCAPED}|${CLASS}|([*+]|\\{\\d+,\\})`, "g")

/** The expression for a pattern; undefined where it is not certain to mean the same or to be cheap. */
export function portablePattern(pattern: string): RegExp | undefined {
  if (!PORTABLE.test(pattern) || COSTLY.test(pattern)) return undefined
  const endless = [...pattern.matchAll(ENDLESS)].filter((each) => each[1] !== undefined)
  return endless.length > 1 ? undefined : new RegExp(pattern, "u")
}
