/** What moving a tenant needs of each plane's store. */
import type { CallScope } from "../kernel/scope.ts"
import type { Item, Kind } from "./model.ts"

/** Takes items as they are read; resolves when there is room for more. */
export type ItemSink = (kind: Kind, items: readonly Item[]) => Promise<void>

/**
 * One plane's share of the scope's tenant. Besides what each method names, all reject with the reasons that all stores share.
 * While a tenant is written, nobody else may write to it.
 */
export interface Archive {
  /** For people: the plane. */
  readonly plane: string
  /** For people: the engine. */
  readonly engine: string
  /** What it has, in the order in which it is read and must be written. */
  readonly kinds: readonly Kind[]
  /** Whether there is anything of the tenant; the tenant's own entry does not count. */
  holds(scope: CallScope): Promise<boolean>
  /** What is under way for the tenant and would be lost, in words; empty when it may be read. */
  unfinished(scope: CallScope): Promise<readonly string[]>
  /**
   * Gives everything that can be seen to `sink`, kind by kind in the order of {@link kinds}, a few megabytes at a time. What has
   * expired is left out. `sink` must not use a store.
   */
  read(scope: CallScope, sink: ItemSink): Promise<void>
  /** Writes items of one kind, in their order, each as it is. Items that are there already, from an attempt before, stay. */
  write(scope: CallScope, kind: Kind, items: readonly Item[]): Promise<void>
  /** After the last item and before the next plane's first: what depends on all of them. Answers notes for people. */
  finish(scope: CallScope): Promise<readonly string[]>
}

/** Which archive is being imported into a tenant; kept in the control store. */
export interface ImportMarks {
  /** The archive whose import has begun and not ended. */
  begun(scope: CallScope): Promise<string | undefined>
  /** Notes that the import of `archive` begins; rejects with FAILED_PRECONDITION where another one has. */
  begin(scope: CallScope, archive: string): Promise<void>
  /** Notes that it is over. */
  end(scope: CallScope): Promise<void>
}
