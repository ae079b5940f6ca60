/**
 * Many moments, one timer. Almost every call ends long before its deadline, and a timer of its own would be most of what watching the
 * deadline costs. The timer is set to the nearest moment; when it goes off too early, because that call has ended, it is set anew.
 */

/** Longer timers overflow and fire at once. */
const MAX_TIMER_MS = 2_147_483_647

/** Something that happens at its moment unless it is taken away before. */
export interface Alarm {
  /** By `performance.now()`. */
  readonly atMs: number
  /** Whether it is set, and its neighbours. Only {@link Alarms} touches them. */
  isSet: boolean
  earlier: Alarm | undefined
  later: Alarm | undefined
  ring(): void
}

/** See the file's comment. */
export class Alarms {
  /** In the order in which they were set. */
  #first: Alarm | undefined
  #last: Alarm | undefined
  #timer: NodeJS.Timeout | undefined
  #timerAtMs = Number.POSITIVE_INFINITY
  readonly #go = () => this.#ring()

  /** Sets an alarm. While any is set the process does not end by itself. */
  set(alarm: Alarm): void {
    if (this.#last === undefined) {
      this.#first = alarm
      this.#timer?.ref()
    } else this.#last.later = alarm
    alarm.isSet = true
    alarm.earlier = this.#last
    this.#last = alarm
    if (alarm.atMs < this.#timerAtMs) this.#wake(alarm.atMs)
  }

  /** Takes away an alarm, unless it has rung. */
  remove(alarm: Alarm): void {
    if (!alarm.isSet) return
    alarm.isSet = false
    const { earlier, later } = alarm
    if (earlier === undefined) this.#first = later
    else earlier.later = later
    if (later === undefined) this.#last = earlier
    else later.earlier = earlier
    alarm.earlier = undefined
    alarm.later = undefined
    if (this.#last === undefined) this.#timer?.unref()
  }

  #wake(atMs: number): void {
    clearTimeout(this.#timer)
    this.#timerAtMs = atMs
    const leftMs = Math.ceil(atMs - performance.now())
    this.#timer = setTimeout(this.#go, Math.min(Math.max(leftMs, 1), MAX_TIMER_MS))
  }

  #ring(): void {
    this.#timer = undefined
    this.#timerAtMs = Number.POSITIVE_INFINITY
    const nowMs = performance.now()
    let nextMs = Number.POSITIVE_INFINITY
    const due: Alarm[] = []
    for (let alarm = this.#first; alarm !== undefined; alarm = alarm.later) {
      if (alarm.atMs <= nowMs) due.push(alarm)
      else nextMs = Math.min(nextMs, alarm.atMs)
    }
    if (nextMs < Number.POSITIVE_INFINITY) this.#wake(nextMs)
    for (const alarm of due) {
      // One that rang before may have taken it away.
      if (!alarm.isSet) continue
      this.remove(alarm)
      alarm.ring()
    }
  }
}
