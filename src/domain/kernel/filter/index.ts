/** The filter language's public face: parse once, compile or evaluate many times. */
export { compareUtf8, type FieldValue, matchesFilter } from "./evaluate.ts"
export {
  type CompareOp,
  type FieldRef,
  type FieldSpec,
  type FieldTable,
  type FieldType,
  type Filter,
  type FilterValue,
  MAX_FILTER_BYTES,
  MAX_FILTER_DEPTH,
  MAX_FILTER_TERMS,
} from "./filter.ts"
export { parseFilter } from "./parse.ts"
