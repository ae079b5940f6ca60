/**
 * One round trip: statements written together with a single Sync behind them, which PostgreSQL runs as one implicit
 * transaction (unless they say BEGIN themselves). Runs on pg's Client as a Submittable.
 */
import type pg from "pg"
import type { Rows, Statement } from "./database.ts"
import { type ColumnParser, columnParser, toWire, type WireValue } from "./values.ts"

/** A statement whose parameters are on-the-wire values already, so that nothing can fail halfway through writing. */
export interface EncodedStatement {
  readonly name: string
  readonly text: string
  readonly values: readonly WireValue[]
}

/** What one statement answered. `tag` is PostgreSQL's command tag, e.g. `INSERT 0 1`. */
export interface StatementResult extends Rows<Record<string, unknown>> {
  readonly tag: string
}

/** Makes a statement ready to send. Throws INVALID_FIELD when a value cannot be stored. */
export function encode(statement: Statement): EncodedStatement {
  return {
    name: statement.name ?? "",
    text: statement.text,
    values: statement.values === undefined ? [] : statement.values.map(toWire),
  }
}

interface Column {
  readonly name: string
  readonly parse: ColumnParser
}

/** A statement that the server has prepared, and its columns once they were described: they stay what they are for as long as it is prepared. */
interface Prepared {
  readonly text: string
  columns: readonly Column[] | undefined
}

/** The statements that one connection has prepared, kept from what the server acknowledged. */
export class PreparedNames {
  readonly #known = new Map<string, Prepared>()
  #sent: EncodedStatement[] = []

  /** Whether `statement` must be parsed first; if so, the caller sends Parse at once. */
  needsParse(statement: EncodedStatement): boolean {
    if (statement.name !== "") {
      if (this.#known.get(statement.name)?.text === statement.text) return false
      this.#known.delete(statement.name)
    }
    this.#sent.push(statement)
    return true
  }

  /** To be called for each ParseComplete. */
  acknowledge(): void {
    const statement = this.#sent.shift()
    if (statement === undefined || statement.name === "") return
    this.#known.set(statement.name, { text: statement.text, columns: undefined })
  }

  /** The statement's columns, if it is prepared and the server has described it. */
  columnsOf({ name, text }: EncodedStatement): readonly Column[] | undefined {
    const known = this.#known.get(name)
    return known?.text === text ? known.columns : undefined
  }

  /** To be called with what the server has described. */
  describe({ name, text }: EncodedStatement, columns: readonly Column[]): void {
    const known = this.#known.get(name)
    if (known?.text === text) known.columns = columns
  }

  /** The round trip is over: what was not acknowledged was not prepared. */
  settle(): void {
    this.#sent = []
  }
}

/** The part of pg's protocol writer that an exchange uses. */
interface ProtocolWriter {
  readonly stream: { cork(): void; uncork(): void }
  close(message: { type: "S"; name: string }): void
  parse(message: { name: string; text: string; types: readonly number[] }): void
  bind(message: { portal: string; statement: string; values: readonly WireValue[]; binary: boolean }): void
  describe(message: { type: "P"; name: string }): void
  execute(message: { portal: string; rows: number }): void
  sync(): void
}

const NO_COLUMNS: readonly Column[] = []

/** One exchange. `outcome` settles exactly once. */
export class Exchange {
  readonly outcome: Promise<readonly StatementResult[]>
  /** Whether the statements were handed to the connection. */
  sent = false
  readonly #statements: readonly EncodedStatement[]
  readonly #prepared: PreparedNames
  readonly #results: StatementResult[] = []
  /** Of each statement, as far as they were known when it was sent. */
  readonly #expected: (readonly Column[] | undefined)[] = []
  #columns: readonly Column[] = NO_COLUMNS
  #rows: Record<string, unknown>[] = []
  #failure: unknown
  #resolve: (results: readonly StatementResult[]) => void = () => {}
  #reject: (error: unknown) => void = () => {}

  constructor(statements: readonly EncodedStatement[], prepared: PreparedNames) {
    this.#statements = statements
    this.#prepared = prepared
    this.outcome = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
  }

  /** Called by pg when the connection is free. */
  submit(connection: pg.Connection): void {
    // @types/pg describes an older protocol writer.
    const writer = connection as unknown as ProtocolWriter
    this.sent = true
    writer.stream.cork()
    const parsedHere = new Map<string, string>()
    for (const statement of this.#statements) {
      if (parsedHere.get(statement.name) !== statement.text && this.#prepared.needsParse(statement)) {
        // The name may stand for another text, or for this one where only the answer was lost. To close what is not there is no error.
        if (statement.name !== "") writer.close({ type: "S", name: statement.name })
        writer.parse({ name: statement.name, text: statement.text, types: [] })
        if (statement.name !== "") parsedHere.set(statement.name, statement.text)
      }
      writer.bind({ portal: "", statement: statement.name, values: statement.values, binary: false })
      const columns = this.#prepared.columnsOf(statement)
      this.#expected.push(columns)
      if (columns === undefined) writer.describe({ type: "P", name: "" })
      writer.execute({ portal: "", rows: 0 })
    }
    writer.sync()
    writer.stream.uncork()
    this.#columns = this.#expected[0] ?? NO_COLUMNS
  }

  handleRowDescription(message: { fields: readonly { name: string; dataTypeID: number }[] }): void {
    this.#columns = message.fields.map((field) => ({
      name: field.name,
      parse: columnParser(field.dataTypeID),
    }))
  }

  handleDataRow(message: { fields: readonly (string | null)[] }): void {
    const row: Record<string, unknown> = {}
    try {
      for (let i = 0; i < this.#columns.length; i++) {
        const column = this.#columns[i]
        const text = message.fields[i]
        if (column !== undefined)
          row[column.name] = text === null || text === undefined ? null : column.parse(text)
      }
    } catch (error) {
      this.#failure ??= error
    }
    this.#rows.push(row)
  }

  handleCommandComplete(message: { text: string }): void {
    this.#finish(message.text)
  }

  handleEmptyQuery(): void {
    this.#finish("")
  }

  handlePortalSuspended(): void {}
  handleCopyInResponse(): void {}
  handleCopyData(): void {}

  /** pg forgets the exchange here and never calls {@link handleReadyForQuery} afterwards, so this settles it. */
  handleError(error: unknown): void {
    this.#prepared.settle()
    this.#reject(error)
  }

  handleReadyForQuery(): void {
    this.#prepared.settle()
    if (this.#failure === undefined) this.#resolve(this.#results)
    else this.#reject(this.#failure)
  }

  #finish(tag: string): void {
    const rows = this.#rows
    const at = this.#results.length
    const statement = this.#statements[at]
    if (statement !== undefined && this.#expected[at] === undefined) {
      this.#prepared.describe(statement, this.#columns)
    }
    const digits = /\d+$/.exec(tag)
    this.#results.push({ rows, tag, count: digits === null ? 0 : Number(digits[0]) })
    this.#rows = []
    this.#columns = this.#expected[at + 1] ?? NO_COLUMNS
  }
}
