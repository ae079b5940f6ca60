import assert from "node:assert/strict"
import { test } from "node:test"
import { type Alarm, Alarms } from "../../src/stores/decorators/alarms.ts"

class Noted implements Alarm {
  readonly atMs: number
  isSet = false
  earlier: Alarm | undefined
  later: Alarm | undefined
  rangAtMs: number | undefined
  readonly #rang: (alarm: Noted) => void

  constructor(inMs: number, rang: (alarm: Noted) => void = () => undefined) {
    this.atMs = performance.now() + inMs
    this.#rang = rang
  }

  ring(): void {
    assert.equal(this.rangAtMs, undefined)
    this.rangAtMs = performance.now()
    this.#rang(this)
  }
}

test("alarms ring once, not before their moment, and not when they were taken away", async () => {
  const alarms = new Alarms()
  const rang: Noted[] = []
  const all = Array.from({ length: 50 }, (_, index) => {
    return new Noted((index * 37) % 60, (alarm) => rang.push(alarm))
  })
  for (const alarm of all) alarms.set(alarm)
  const gone = all.filter((_, index) => index % 3 === 0)
  for (const alarm of gone) alarms.remove(alarm)
  const left = all.filter((alarm) => !gone.includes(alarm))
  while (rang.length < left.length) await new Promise((resolve) => setTimeout(resolve, 1))
  // Whoever was taken away has had more than his time by now.
  await new Promise<void>((resolve) => alarms.set(new Noted(80, () => resolve())))
  assert.deepEqual(new Set(rang), new Set(left))
  for (const alarm of left) assert.ok((alarm.rangAtMs ?? 0) >= alarm.atMs)
})

test("an alarm may set and take away others", async () => {
  const alarms = new Alarms()
  const victim = new Noted(20)
  await new Promise<void>((resolve) => {
    alarms.set(
      new Noted(1, () => {
        alarms.remove(victim)
        alarms.set(new Noted(40, () => resolve()))
      }),
    )
    alarms.set(victim)
  })
  assert.equal(victim.rangAtMs, undefined)
})

test("a moment in years does not ring at once", async () => {
  const alarms = new Alarms()
  const far = new Noted(100 * 365 * 86_400_000)
  alarms.set(far)
  await new Promise<void>((resolve) => alarms.set(new Noted(5, () => resolve())))
  assert.equal(far.rangAtMs, undefined)
  alarms.remove(far)
})
