/** Object levels per protobuf level: what a field holds may lie in a list, a map or a oneof. */
const LEVELS_PER_MESSAGE = 2

/** Whether messages that nest as deep as `deepest` may hold objects and lists deeper than `levels`. */
export function mayBeDeeperThan(levels: number, deepest: number): boolean {
  return deepest * LEVELS_PER_MESSAGE > levels
}

/** Whether objects and lists nest deeper in a value than `levels`; the value itself is level 0. */
export function isDeeperThan(levels: number, value: object): boolean {
  if (levels < 0) return true
  if (Array.isArray(value)) {
    for (const each of value) if (isNested(each) && isDeeperThan(levels - 1, each)) return true
    return false
  }
  for (const each of Object.values(value)) if (isNested(each) && isDeeperThan(levels - 1, each)) return true
  return false
}

function isNested(value: unknown): value is object {
  return typeof value === "object" && value !== null && !(value instanceof Uint8Array)
}
