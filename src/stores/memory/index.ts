/** The Memory plane over a registry in SQL and a vector store. */
export { createRoutedMemoryStore, REGISTRY_OPERATIONS, type Registry, type RoutedOptions } from "./routed.ts"
