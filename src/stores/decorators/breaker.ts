/**
 * A circuit breaker for one store and one class of operations. Opossum keeps the rolling window and decides when to open;
 * whether a call may pass, when to probe and when to close is decided here, so that calls are not probes, a hung probe cannot
 * hold the breaker half-open, and what the callers did wrong counts neither way.
 */
import Opossum from "opossum"
import { DomainError, type Reason } from "../../domain/kernel/errors.ts"

/** When to open and how to probe. */
export interface BreakerSettings {
  readonly enabled: boolean
  /** Share of failures in the window, in percent, above which it opens. */
  readonly errorPercent: number
  /** Calls in the window below which it never opens. */
  readonly volume: number
  readonly windowMs: number
  readonly probeMinMs: number
  readonly probeMaxMs: number
  readonly probeTimeoutMs: number
  /** A call that its deadline ended counts only when the store had it for this long. */
  readonly slowMs: number
}

/** Reads and writes of a store fail apart: a full disk takes no writes and still answers. */
export type OperationClass = "read" | "write"

/** What a call said about the health of the store. */
export type Verdict = "healthy" | "sick" | "nothing"

/** A breaker as it is listed. */
export interface BreakerState {
  readonly store: string
  readonly operationClass: OperationClass
  readonly state: "closed" | "open" | "half_open"
  /** Within the window. */
  readonly successes: number
  readonly failures: number
  /** Calls refused since the start of the daemon. */
  readonly rejections: number
  readonly openedAtMs: number | undefined
  readonly nextProbeAtMs: number | undefined
  /** An operator holds it open. */
  readonly tripped: boolean
}

/** What a breaker needs. */
export interface BreakerOptions {
  readonly store: string
  readonly operationClass: OperationClass
  readonly settings: BreakerSettings
  /** Asks the store whether it answers; must honour the signal, and is given up on when it does not. */
  probe(signal: AbortSignal, timeoutMs: number): Promise<void>
  /** Told about each change. */
  onChange?(state: BreakerState): void
  /** 0 to 1, for jitter. */
  readonly random?: () => number
  readonly now?: () => number
}

const MAX_TIMER_MS = 2_147_483_647
/** When to come back to a breaker that an operator holds open for an unknown time. */
const TRIPPED_RETRY_MS = 1_000
const MIN_RETRY_MS = 50

/** See the top of this file. */
export class Breaker {
  readonly #options: BreakerOptions
  readonly #now: () => number
  readonly #random: () => number
  #window: Opossum<[], void>
  #state: BreakerState["state"] = "closed"
  #openedAtMs: number | undefined
  #closedAtMs = Number.NEGATIVE_INFINITY
  #nextProbeAtMs: number | undefined
  #pauseMs: number
  #rejections = 0
  #timer: NodeJS.Timeout | undefined
  #probe: AbortController | undefined
  #tripped = false
  /** The last probe was told so: the store is there, and what is wrong is for an operator to mend. */
  #unwelcome = false
  #stopped = false

  constructor(options: BreakerOptions) {
    this.#options = options
    this.#now = options.now ?? Date.now
    this.#random = options.random ?? Math.random
    this.#pauseMs = options.settings.probeMinMs
    this.#window = this.#newWindow()
  }

  /**
   * Throws STORE_UNAVAILABLE while the store is taken for sick, STORE_AUTH while it is for what it said to the last probe; nothing was
   * sent then.
   */
  admit(): void {
    if (this.#state === "closed") return
    this.#rejections += 1
    const { store, operationClass } = this.#options
    const [reason, why] = this.#refusal()
    throw new DomainError(
      reason,
      `the store "${store}" ${why}; ${operationClass}s are refused, nothing was done`,
      {
        metadata: { store, operation_class: operationClass },
        retryDelayMs: this.#retryDelayMs(),
      },
    )
  }

  #refusal(): readonly [Reason, string] {
    if (this.#tripped) return ["STORE_UNAVAILABLE", "was taken out of service"]
    if (this.#unwelcome) return ["STORE_AUTH", "refuses the daemon's credentials or their rights"]
    return ["STORE_UNAVAILABLE", "is failing and has not answered again yet"]
  }

  /** Whether calls pass. */
  get closed(): boolean {
    return this.#state === "closed"
  }

  /** Opens it by hand: until {@link reset}, or for `durationMs`, after which the store is probed. */
  trip(durationMs: number | undefined): void {
    if (this.#stopped) return
    this.#forgetProbe()
    this.#tripped = true
    this.#state = "open"
    this.#openedAtMs ??= this.#now()
    this.#pauseMs = this.#options.settings.probeMinMs
    if (durationMs !== undefined) this.#probeAfter(durationMs)
    this.#changed()
  }

  /** Closes it, whoever opened it, and forgets the failures so far. */
  reset(): void {
    if (this.#stopped) return
    this.#forgetProbe()
    this.#close()
  }

  /** Counts what an admitted call said. Calls admitted before it opened still report, and change nothing. */
  report(verdict: Verdict): void {
    if (verdict === "nothing" || this.#state !== "closed" || !this.#options.settings.enabled) return
    if (verdict === "healthy") {
      // What the window does for a call that went well, without the call and its promises.
      this.#window.emit("fire")
      this.#window.emit("success", undefined, 0)
      return
    }
    // The window's promise says what is known already.
    this.#window.fire().catch(() => {})
  }

  /** How it stands. */
  state(): BreakerState {
    const { successes, failures } = this.#window.stats
    return {
      store: this.#options.store,
      operationClass: this.#options.operationClass,
      state: this.#state,
      successes,
      failures,
      rejections: this.#rejections,
      openedAtMs: this.#openedAtMs,
      nextProbeAtMs: this.#nextProbeAtMs,
      tripped: this.#tripped,
    }
  }

  /** Stops its timers for good. */
  stop(): void {
    this.#stopped = true
    clearTimeout(this.#timer)
    this.#probe?.abort()
    this.#window.shutdown()
  }

  #newWindow(): Opossum<[], void> {
    const { settings } = this.#options
    const window = new Opossum<[], void>(() => Promise.reject(new Error("failed")), {
      timeout: false,
      errorThresholdPercentage: settings.errorPercent,
      volumeThreshold: settings.volume,
      rollingCountTimeout: settings.windowMs,
      rollingPercentilesEnabled: false,
      enableSnapshots: false,
      // Opossum must never go half-open by itself: then the next call would be the probe.
      resetTimeout: MAX_TIMER_MS,
    })
    window.on("open", () => this.#open())
    return window
  }

  #open(): void {
    if (this.#state !== "closed" || this.#stopped) return
    const now = this.#now()
    const { settings } = this.#options
    // Sick again right after it was found healthy: the probe sees less than the calls, so do not begin anew.
    if (now - this.#closedAtMs > settings.windowMs) this.#pauseMs = settings.probeMinMs
    this.#state = "open"
    this.#openedAtMs = now
    this.#schedule()
    this.#changed()
  }

  #schedule(): void {
    const waitMs = this.#pauseMs * (0.5 + this.#random())
    this.#pauseMs = Math.min(this.#pauseMs * 2, this.#options.settings.probeMaxMs)
    this.#probeAfter(waitMs)
  }

  #probeAfter(ms: number): void {
    const waitMs = Math.min(ms, MAX_TIMER_MS)
    this.#nextProbeAtMs = this.#now() + waitMs
    this.#timer = setTimeout(() => void this.#runProbe(), waitMs)
    this.#timer.unref()
  }

  async #runProbe(): Promise<void> {
    const { probeTimeoutMs } = this.#options.settings
    this.#state = "half_open"
    this.#tripped = false
    this.#nextProbeAtMs = undefined
    this.#changed()
    const abort = new AbortController()
    this.#probe = abort
    const timer = setTimeout(() => abort.abort(), probeTimeoutMs)
    const givenUp = new Promise<boolean>((resolve) => {
      abort.signal.addEventListener("abort", () => resolve(false))
    })
    let unwelcome = false
    const answered = this.#options.probe(abort.signal, probeTimeoutMs).then(
      () => true,
      (error: unknown) => {
        unwelcome = error instanceof DomainError && error.reason === "STORE_AUTH"
        return false
      },
    )
    const healthy = await Promise.race([answered, givenUp])
    clearTimeout(timer)
    // An operator has decided meanwhile: what this probe found out is of no interest any more.
    if (this.#stopped || this.#probe !== abort) return
    this.#probe = undefined
    this.#unwelcome = unwelcome
    if (healthy) this.#close()
    else {
      this.#state = "open"
      this.#schedule()
      this.#changed()
    }
  }

  #close(): void {
    this.#state = "closed"
    this.#closedAtMs = this.#now()
    this.#openedAtMs = undefined
    this.#tripped = false
    this.#unwelcome = false
    // A new window: the failures that opened the old one would open it again at the first new one.
    this.#window.shutdown()
    this.#window = this.#newWindow()
    this.#changed()
  }

  #forgetProbe(): void {
    clearTimeout(this.#timer)
    const probe = this.#probe
    this.#probe = undefined
    probe?.abort()
    this.#nextProbeAtMs = undefined
  }

  /** Until the store is asked next: a call before that would be refused again. */
  #retryDelayMs(): number {
    if (this.#nextProbeAtMs !== undefined) return Math.max(MIN_RETRY_MS, this.#nextProbeAtMs - this.#now())
    return this.#tripped ? TRIPPED_RETRY_MS : MIN_RETRY_MS
  }

  #changed(): void {
    this.#options.onChange?.(this.state())
  }
}
