/** The way back: while an atomic call runs, every change notes how to undo it. */
export class Journal {
  readonly #undo: (() => void)[] = []

  /** Notes how to undo the change that follows. */
  note(undo: () => void): void {
    this.#undo.push(undo)
  }

  /** Undoes everything, last change first. */
  rollBack(): void {
    for (let undo = this.#undo.pop(); undo !== undefined; undo = this.#undo.pop()) undo()
  }
}
