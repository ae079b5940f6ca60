/** Current values, then every change, without gaps: the sequence is the tenant's own and has none. */
import type { Clock } from "../kernel/clock.ts"
import type { CallScope } from "../kernel/scope.ts"
import { type Listener, requireLive } from "../kernel/wake-ups.ts"
import type { ConfigTarget, ConfigVersion } from "./model.ts"
import type { ConfigStore } from "./ports.ts"
import type { ControlSignals } from "./signals.ts"

/** One frame of a watch. */
export type ConfigFrame =
  | { readonly kind: "config"; readonly config: ConfigVersion; readonly sequence: bigint }
  | { readonly kind: "synced" | "heartbeat"; readonly sequence: bigint }

/** What a watch needs. */
export interface WatchDeps {
  readonly configs: ConfigStore
  readonly signals: ControlSignals
  readonly clock: Clock
  /** How often other daemons' changes are looked for; 1000 by default. */
  readonly pollMs?: number
  /** How long nothing is sent at the most; 15000 by default. */
  readonly heartbeatMs?: number
}

const PAGE = 100

/** Runs until the scope ends, and fails with the reason of that. `afterSequence` resumes instead of sending the current values. */
export async function* watchConfig(
  deps: WatchDeps,
  scope: CallScope,
  target: ConfigTarget,
  afterSequence: bigint | undefined,
): AsyncGenerator<ConfigFrame> {
  const listener = deps.signals.listenToConfig(scope.tenant)
  try {
    let sequence = afterSequence
    if (sequence === undefined) {
      // The sequence first: what is written while the values are being read is sent as a change.
      sequence = await deps.configs.lastSequence(scope)
      yield* currentValues(deps.configs, scope, target, sequence)
      yield { kind: "synced", sequence }
    }
    yield* changes(deps, scope, target, sequence, afterSequence !== undefined, listener)
  } finally {
    listener.close()
  }
}

async function* currentValues(
  configs: ConfigStore,
  scope: CallScope,
  target: ConfigTarget,
  sequence: bigint,
): AsyncGenerator<ConfigFrame> {
  let afterKey: string | undefined
  for (;;) {
    const page = await configs.snapshot(scope, target, sequence, afterKey, PAGE)
    for (const config of page) yield { kind: "config", config, sequence: 0n }
    afterKey = page.at(-1)?.key
    if (page.length < PAGE) return
  }
}

async function* changes(
  { configs, clock, pollMs = 1_000, heartbeatMs = 15_000 }: WatchDeps,
  scope: CallScope,
  target: ConfigTarget,
  from: bigint,
  resumed: boolean,
  listener: Listener,
): AsyncGenerator<ConfigFrame> {
  let sequence = from
  let catchingUp = resumed
  let sent = clock.now()
  for (;;) {
    requireLive(scope)
    // One small row says whether anything happened at all, and how far an answer without matches reaches.
    const last = await configs.lastSequence(scope)
    const page = last > sequence ? await configs.changes(scope, target, sequence, PAGE) : []
    for (const config of page) {
      sequence = config.sequence
      yield { kind: "config", config, sequence }
    }
    if (page.length > 0) sent = clock.now()
    if (page.length === PAGE) continue
    if (last > sequence) sequence = last
    if (catchingUp) {
      catchingUp = false
      yield { kind: "synced", sequence }
    } else if (clock.now() - sent >= heartbeatMs) {
      sent = clock.now()
      yield { kind: "heartbeat", sequence }
    }
    await listener.wait(pollMs, scope.signal)
  }
}
