/** Vectors that are the same in every run. */
import { DIMENSION } from "./cases.ts"

/** Makes one vector after the other, repeatable by seed. */
export function vectors(seed: number): () => Float32Array {
  let state = seed
  const next = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32 - 0.5
  }
  return () => Float32Array.from({ length: DIMENSION }, next)
}

/** As pgvector takes it. */
export function textOf(vector: Float32Array): string {
  return `[${vector.join(",")}]`
}
