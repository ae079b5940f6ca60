/** The audit log as a file, over any store. */
import assert from "node:assert/strict"
import { before, describe, it } from "node:test"
import { type AuditExportFormat, csvCell, exportAudit } from "../../src/domain/event/audit-export.ts"
import type { AuditPosition } from "../../src/domain/event/audit-ports.ts"
import { type CallScope, systemScope } from "../../src/domain/kernel/scope.ts"
import { type AuditHarness, entry } from "./audit-support.ts"

/** Registers the suite. */
export function auditExportContract(make: () => Promise<AuditHarness>): void {
  describe("audit export", () => {
    let harness: AuditHarness
    before(async () => {
      harness = await make()
    })
    const file = async (scope: CallScope, format: AuditExportFormat, after?: AuditPosition) => {
      const chunks: Uint8Array[] = []
      for await (const { data } of exportAudit(scope, harness.store, {}, format, after)) chunks.push(data)
      return Buffer.concat(chunks).toString()
    }

    it("writes one JSON object per line, in the order of recording", async () => {
      const scope = systemScope(harness.freshTenant())
      await harness.store.record(scope, [
        entry({ actor: 'quote " and\nline', details: { "=x": [1, "ü"] }, timeMs: 9_000 }),
        entry({ actor: "second", timeMs: 1_000 }),
      ])
      const lines = (await file(scope, "json_lines")).trimEnd().split("\n")
      const objects = lines.map((line) => JSON.parse(line) as Record<string, unknown>)
      assert.deepEqual(
        objects.map(({ sequence, actor }) => [sequence, actor]),
        [
          [1, 'quote " and\nline'],
          [2, "second"],
        ],
      )
      assert.deepEqual(objects[0]?.details, { "=x": [1, "ü"] })
      assert.match(String(objects[0]?.hash), /^[0-9a-f]{64}$/)
    })

    it("writes CSV that a parser reads back and a spreadsheet does not compute", async () => {
      const scope = systemScope(harness.freshTenant())
      const hostile = ["=1+1", "+SUM(A1)", "-2", "@cmd", "\ttab", "\rreturn", 'a"b', "a,b", "a\r\nb", "plain"]
      await harness.store.record(
        scope,
        hostile.map((actor) => entry({ actor })),
      )
      const rows = parseCsv(await file(scope, "csv"))
      const column = rows[0]?.indexOf("actor") ?? -1
      assert.equal(rows.length, hostile.length + 1)
      for (const [i, actor] of hostile.entries()) {
        const cell = rows[i + 1]?.[column] ?? ""
        assert.doesNotMatch(cell, /^[=+\-@\t\r]/)
        assert.equal(cell, i < 6 ? `'${actor}` : actor)
      }
    })

    it("quotes exactly what needs it", () => {
      assert.equal(csvCell(""), "")
      assert.equal(csvCell("a b"), "a b")
      assert.equal(csvCell('say "hi"'), '"say ""hi"""')
      assert.equal(csvCell("=1,2"), `"'=1,2"`)
    })

    it("resumes after any chunk without a second header, and gives the same file", async () => {
      const scope = systemScope(harness.freshTenant())
      const details = { filler: "x".repeat(4_000) }
      for (let i = 0; i < 6; i++) {
        await harness.store.record(
          scope,
          Array.from({ length: 50 }, () => entry({ details })),
        )
      }
      const whole = await file(scope, "csv")
      let text = ""
      let chunks = 0
      for await (const { data, position } of exportAudit(scope, harness.store, {}, "csv")) {
        text += Buffer.from(data).toString()
        chunks++
        assert.ok(data.byteLength < 512 * 1024)
        assert.ok(text.endsWith("\r\n"))
        assert.equal(text + (await file(scope, "csv", position)), whole)
      }
      assert.ok(chunks > 3)
    })

    it("gives an empty log as an empty file, or as the header alone", async () => {
      const scope = systemScope(harness.freshTenant())
      assert.equal(await file(scope, "json_lines"), "")
      assert.match(await file(scope, "csv"), /^record_id,.*hash\r\n$/)
    })
  })
}

/** RFC 4180, as a reader that knows nothing of the writer. */
function parseCsv(text: string): string[][] {
  const rows: string[][] = [[]]
  let [cell, quoted] = ["", false]
  for (let i = 0; i < text.length; i++) {
    const char = text[i]
    if (quoted) {
      if (char !== '"') cell += char
      else if (text[i + 1] === '"') cell += text[++i]
      else quoted = false
    } else if (char === '"') quoted = true
    else if (char === ",") {
      rows.at(-1)?.push(cell)
      cell = ""
    } else if (char === "\r" && text[i + 1] === "\n") {
      rows.at(-1)?.push(cell)
      cell = ""
      rows.push([])
      i++
    } else cell += char
  }
  rows.pop()
  return rows
}
