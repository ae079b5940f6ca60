/** Pages: what List RPCs take and answer (AIP-158). */

/** A request for one page. Services make it from page_size and page_token with the token codec of src/services/paging. */
export interface PageRequest {
  /** How many items at the most, already defaulted and clamped. */
  readonly size: number
  /** Where the last page ended: the adapter's own sort key, as it was put into {@link Page.next}. */
  readonly cursor?: readonly string[] | undefined
}

/** One page in the order the port documents. */
export interface Page<T> {
  readonly items: readonly T[]
  /** Present exactly when more items may exist. */
  readonly next?: readonly string[] | undefined
}
