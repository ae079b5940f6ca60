/** One log line for people. */

const COLOURS: Readonly<Record<string, string>> = { info: "32", warn: "33", error: "31", debug: "90" }

/** Turns a JSON line of the log into `time LEVEL message key=value`. */
export function prettyLine(json: string, colour: boolean): string {
  const { level, time, message, err, ...rest } = JSON.parse(json) as Record<string, unknown>
  const name = String(level)
  const label = name.toUpperCase().padEnd(5)
  const shown = colour ? `\u001b[${COLOURS[name] ?? "0"}m${label}\u001b[0m` : label
  const fields = Object.entries(rest).map(([key, value]) => ` ${key}=${String(value)}`)
  const clock = String(time).slice(11, 23)
  return `${clock} ${shown} ${String(message)}${fields.join("")}\n${err === undefined ? "" : errorLines(err, "  ")}`
}

function errorLines(error: unknown, indent: string): string {
  const { name, reason, code, message, stack, cause } = error as Record<string, unknown>
  const head = [name, reason, code, message].filter((part) => part !== undefined).join(" ")
  const frames = Array.isArray(stack) ? stack.map((frame) => `${indent}  ${String(frame)}\n`).join("") : ""
  return `${indent}${head}\n${frames}${cause === undefined ? "" : errorLines(cause, `${indent}  `)}`
}
