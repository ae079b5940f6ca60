/** The Memory plane over a registry in SQL and a vector store. */
export { createRoutedMemoryStore, type Registry, type RoutedOptions } from "./routed.ts"
