/** Appends, the same on every engine that keeps events. */
import { APPEND, appendBodies, BATCH } from "../cases.ts"
import { BATCHED, type Target, UNARY, type Work } from "./engine.ts"

const GROUPED: readonly Target[] = [{ what: "append", inFlight: 64 }]

/** Appends of 64 writers to streams of their own and to one. `less` names calls of the driver that do without the order of all events. */
export function appends(less: { readonly own?: string; readonly one?: string } = {}): readonly Work[] {
  const named = (call: string | undefined) =>
    call === undefined ? {} : { less: { "bare driver, without a feed": call } }
  return [
    {
      name: "AppendEvents, 64 streams",
      items: 1,
      path: APPEND,
      bodies: appendBodies(64, 1),
      bare: "append",
      ...named(less.own),
      inFlight: [64, 1],
      targets: [...UNARY, ...GROUPED],
    },
    {
      name: "AppendEvents, one stream",
      items: 1,
      path: APPEND,
      bodies: appendBodies(1, 1),
      bare: "appendToOne",
      ...named(less.one),
      inFlight: [64],
      targets: [...UNARY, ...GROUPED],
    },
    {
      name: `AppendEvents x ${BATCH}, 64 streams`,
      items: BATCH,
      path: APPEND,
      bodies: appendBodies(64, BATCH),
      bare: "appendMany",
      inFlight: [64, 1],
      targets: BATCHED,
    },
  ]
}
