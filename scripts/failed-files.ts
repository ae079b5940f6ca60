/** A reporter for node:test that writes the test files in which something failed, one per line. */
import type { TestEvent } from "node:test/reporters"

/** See the file's comment. */
export default async function* failedFiles(source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  const seen = new Set<string>()
  for await (const event of source) {
    if (event.type !== "test:fail") continue
    // A file that did not end by itself fails under its own name, without a place in it.
    const file = event.data.file ?? event.data.name
    if (seen.has(file)) continue
    seen.add(file)
    yield `${file}\n`
  }
}
