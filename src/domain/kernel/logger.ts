/** The log as every layer sees it; src/telemetry makes the real one. */

/** Structured fields first, then one sentence. Never payloads, metadata values, secrets or data source names. */
export interface Logger {
  /** Something an operator may want to know later. */
  info(fields: Readonly<Record<string, unknown>>, message: string): void
  /** Something that works, but not as it should. */
  warn(fields: Readonly<Record<string, unknown>>, message: string): void
  /** A failure that the daemon could not turn into an answer with a reason. An Error goes under the key `err`. */
  error(fields: Readonly<Record<string, unknown>>, message: string): void
}

/** Drops everything; for tests and tools. */
export const silentLogger: Logger = { info: () => {}, warn: () => {}, error: () => {} }
