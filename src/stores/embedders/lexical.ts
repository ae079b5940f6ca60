/**
 * The built-in embedder: hashed n-grams. It compares spelling, not meaning: texts that share words and parts of words are
 * close, synonyms are not. It needs no network, no model and no time, and always answers the same.
 */
import type { Embedder } from "../../domain/memory/ports.ts"

/** The name collections pin. */
export const LEXICAL_EMBEDDER = "builtin-lexical-384"

const DIMENSION = 384
const WORD = /[\p{L}\p{N}]+/gu
const WORD_WEIGHT = 1
const PAIR_WEIGHT = 0.7
const GRAM_WEIGHT = 0.35
const GRAM_LENGTHS = [3, 4, 5] as const
/** Words that are looked at; what follows adds nothing that a vector of this size could hold. */
const MAX_WORDS = 20_000

/** The built-in embedder. */
export function createLexicalEmbedder(): Embedder {
  return {
    name: LEXICAL_EMBEDDER,
    dimension: DIMENSION,
    embed: (_scope, texts) => Promise.resolve(texts.map(embedText)),
  }
}

function embedText(text: string): Float32Array {
  const counts = new Map<string, number>()
  const add = (feature: string, weight: number): void => {
    counts.set(feature, (counts.get(feature) ?? 0) + weight)
  }
  const words = (text.normalize("NFKC").toLowerCase().match(WORD) ?? []).slice(0, MAX_WORDS)
  words.forEach((word, i) => {
    add(`w${word}`, WORD_WEIGHT)
    const next = words[i + 1]
    if (next !== undefined) add(`p${word} ${next}`, PAIR_WEIGHT)
    const padded = `<${word}>`
    for (const length of GRAM_LENGTHS) {
      for (let at = 0; at + length <= padded.length; at++)
        add(`g${padded.slice(at, at + length)}`, GRAM_WEIGHT)
    }
  })
  // A text without a word still gets a direction: a zero vector has no cosine.
  if (counts.size === 0) add(`t${text}`, 1)
  const vector = new Float64Array(DIMENSION)
  for (const [feature, weight] of counts) {
    const hash = hashOf(feature)
    const slot = hash % DIMENSION
    // The sign makes collisions cancel instead of add up; the root keeps frequent features from drowning the rest.
    vector[slot] = (vector[slot] ?? 0) + Math.sqrt(weight) * (hash & 0x80000000 ? -1 : 1)
  }
  return normalised(vector)
}

/** 32-bit FNV-1a over UTF-16 units, mixed at the end so that all bits depend on all input. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) {
    hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  }
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}

function normalised(vector: Float64Array): Float32Array {
  let squares = 0
  for (const component of vector) squares += component * component
  const result = new Float32Array(vector.length)
  if (squares === 0) {
    // All features cancelled out, which takes an even handful of them and much bad luck.
    result[0] = 1
    return result
  }
  const norm = Math.sqrt(squares)
  for (let i = 0; i < vector.length; i++) result[i] = (vector[i] ?? 0) / norm
  return result
}
