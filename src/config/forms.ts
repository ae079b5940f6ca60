/** Forms of values that several parts of the schema share. */
import { z } from "zod"

/** A whole number in a range, both ends included. */
export const count = (minimum: number, maximum: number) => z.int().min(minimum).max(maximum)

/** Text of 1 to `maximum` characters. */
export const text = (maximum: number) => z.string().min(1).max(maximum)
