/** Whether what was measured is what is wanted. */

import { APPEND_RATIO, BATCH_RATIO, CPU_RATIO, P50_RATIO, type Target } from "./engine.ts"
import { BARE, DAEMON, DAPRD, FLOOR, type Measured, middle } from "./rounds.ts"

/** One target. */
export interface Verdict {
  readonly text: string
  readonly value: number
  readonly met: boolean
}

/** The targets of one measurement. */
export function verdicts(measured: Measured): readonly Verdict[] {
  const { work, inFlight } = measured
  const beside = work.daprd === undefined || inFlight === 1 ? [] : besideDaprd(measured)
  const own = work.targets
    .filter((target) => target.inFlight === inFlight)
    .map((target) => {
      const { value, met, text } = judge(target, measured)
      return { value, met, text: `${work.name}, ${inFlight} in flight: ${text}` }
    })
  return [...own, ...beside]
}

/** At least as many calls, and at most as much CPU for each, as Dapr's sidecar where it was measured. */
function besideDaprd({ work, inFlight, rounds }: Measured): readonly Verdict[] {
  if (rounds.some((round) => round[DAPRD] === undefined)) return []
  const throughput = middle(rounds, (of) => of(DAEMON).perSecond / of(DAPRD).perSecond)
  const cpu = middle(rounds, (of) => of(DAEMON).cpu / of(DAPRD).cpu)
  const name = `${work.name}, ${inFlight} in flight`
  return [
    { value: throughput, met: throughput >= 1, text: `${name}: throughput over daprd's (at least 1)` },
    { value: cpu, met: cpu <= 1, text: `${name}: CPU over daprd's (at most 1)` },
  ]
}

function judge({ what }: Target, { rounds }: Measured): Verdict {
  const throughput = middle(rounds, (of) => of(DAEMON).perSecond / of(BARE).perSecond)
  switch (what) {
    case "cpu": {
      const value = middle(rounds, (of) => of(DAEMON).cpu / (of(FLOOR).cpu + of(BARE).cpu))
      return {
        value,
        met: value <= CPU_RATIO,
        text: `CPU over empty handler and driver together (at most ${CPU_RATIO})`,
      }
    }
    case "append":
      return {
        value: throughput,
        met: throughput >= APPEND_RATIO,
        text: `throughput over the driver, which does not group (at least ${APPEND_RATIO})`,
      }
    case "batch":
      return {
        value: throughput,
        met: throughput >= BATCH_RATIO,
        text: `throughput over the driver (at least ${BATCH_RATIO})`,
      }
    default: {
      const value = middle(rounds, (of) => of(DAEMON).p50 / of(BARE).p50)
      return { value, met: value < P50_RATIO, text: `p50 over the driver (less than ${P50_RATIO})` }
    }
  }
}
