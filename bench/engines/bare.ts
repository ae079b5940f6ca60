/** What a comparison wants of a driver without the daemon: the same work by itself, as anybody would write it who has only the driver. */

/** One call of each kind of work, by name; `index` counts the calls. */
export type BareCalls = Readonly<Record<string, (index: number) => Promise<unknown>>>

/** Connects, makes its own tables beside the daemon's and fills them. */
export type OpenBare = (url: string) => Promise<BareCalls>

/** What the worker is asked for. */
export interface BareLoad {
  readonly call: string
  readonly inFlight: number
  readonly durationMs: number
  /** At least so many calls are made however long they take. */
  readonly leastCalls: number
}
