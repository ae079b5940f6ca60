/** The rules every stored or searched vector must keep, so that no distance is ever NaN or infinite. */
import { invalidField } from "../kernel/errors.ts"
import { type CollectionDraft, type Metric, scoreOf } from "./model.ts"

/** Largest magnitude of a 16-bit float. */
const HALF_MAX = 65504
// Squares and sums of squares are computed in 32-bit floats by engines; within these norms they neither vanish nor overflow.
const NORM_MAX = 1e18
const COSINE_NORM_MAX = 1e15
const COSINE_NORM_MIN = 1e-15
// Below this a vector may become zero when its components are rounded to 16 bits.
const COSINE_HALF_NORM_MIN = 1e-3

type Space = Pick<CollectionDraft, "dimension" | "metric" | "quantization">

/**
 * Throws INVALID_FIELD naming `field` unless `vector` fits the collection.
 * @param owner what the vector belongs to for the message, e.g. `record "a"`; empty for a query.
 */
export function checkVector(vector: Float32Array, space: Space, field: string, owner: string): void {
  const whose = owner === "" ? "" : `${owner}: `
  if (vector.length !== space.dimension) {
    throw invalidField(
      field,
      `${whose}has ${vector.length} components, the collection's dimension is ${space.dimension}`,
    )
  }
  let squares = 0
  let largest = 0
  for (let i = 0; i < vector.length; i++) {
    const component = vector[i] ?? 0
    squares += component * component
    const magnitude = Math.abs(component)
    if (magnitude > largest) largest = magnitude
  }
  if (!Number.isFinite(squares)) throw invalidField(field, `${whose}has a component that is NaN or infinite`)
  if (space.quantization === "HALF" && largest > HALF_MAX) {
    throw invalidField(field, `${whose}has a component beyond ${HALF_MAX}, the limit of half precision`)
  }
  checkNorm(Math.sqrt(squares), space, field, whose)
}

function checkNorm(norm: number, space: Space, field: string, whose: string): void {
  if (space.metric !== "COSINE") {
    if (norm > NORM_MAX) throw invalidField(field, `${whose}is longer than ${NORM_MAX}`)
    return
  }
  const least = space.quantization === "HALF" ? COSINE_HALF_NORM_MIN : COSINE_NORM_MIN
  if (norm < least || norm > COSINE_NORM_MAX) {
    throw invalidField(
      field,
      `${whose}has the length ${norm}; cosine similarity needs ${least} to ${COSINE_NORM_MAX}, and a zero vector has no direction`,
    )
  }
}

/** Cosine similarity of two vectors of one dimension; 0 where one of them is zero. */
export function cosine(a: Float32Array, b: Float32Array): number {
  let dot = 0
  let aa = 0
  let bb = 0
  for (let i = 0; i < a.length; i++) {
    const x = a[i] ?? 0
    const y = b[i] ?? 0
    dot += x * y
    aa += x * x
    bb += y * y
  }
  const norms = Math.sqrt(aa) * Math.sqrt(bb)
  return norms === 0 ? 0 : dot / norms
}

/** The score of two vectors of one dimension, as a search answers it. */
export function similarity(metric: Metric, a: Float32Array, b: Float32Array): number {
  if (metric === "COSINE") return scoreOf(metric, 1 - cosine(a, b))
  let sum = 0
  for (let i = 0; i < a.length; i++) {
    const x = a[i] ?? 0
    const y = b[i] ?? 0
    if (metric === "INNER_PRODUCT") sum -= x * y
    else if (metric === "L2") sum += (x - y) * (x - y)
    else sum += Math.abs(x - y)
  }
  return scoreOf(metric, metric === "L2" ? Math.sqrt(sum) : sum)
}
