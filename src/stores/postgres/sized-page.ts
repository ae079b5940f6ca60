/** Pages that end where the next item would make the answer too large to be sent. */

/** What {@link sizedPageSql} selects from. */
export interface SizedPage {
  /** The table, and the name under which every other part of this speaks of it. */
  readonly table: string
  readonly alias: string
  /** What to answer. */
  readonly columns: string
  readonly where: string
  /** A total order. */
  readonly order: string
  /** Bytes of one item in the answer, at most. */
  readonly bytes: string
  /** The parameter with the page's size and one more. */
  readonly limit: string
  /** Most bytes of a page; its first item is answered whatever it weighs. */
  readonly maxBytes: number
}

/** What each row has beside the columns. */
export interface SizedRow {
  /** Items up to the limit, those that were cut off among them. */
  readonly found: bigint
}

/** The query of one page. */
export function sizedPageSql(page: SizedPage): string {
  const { table, alias, columns, where, order, bytes, limit, maxBytes } = page
  return `select ${columns}, ${alias}.found from (
      select ${alias}.*, count(*) over () as found, sum(${alias}.bytes) over sized as total, row_number() over sized as place
      from (select ${alias}.*, ${bytes} as bytes from ${table} ${alias} where ${where} order by ${order} limit ${limit}) ${alias}
      window sized as (order by ${order})
    ) ${alias} where ${alias}.place = 1 or ${alias}.total <= ${maxBytes} order by ${order}`
}

/** The rows of the page, and whether another page follows. */
export function sizedRows<R extends SizedRow>(rows: readonly R[], size: number) {
  const items = rows.slice(0, size)
  return { items, more: BigInt(items.length) < (rows[0]?.found ?? 0n) }
}
