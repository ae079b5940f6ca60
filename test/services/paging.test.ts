import assert from "node:assert/strict"
import { randomBytes } from "node:crypto"
import { describe, it } from "node:test"
import { DomainError, type Reason } from "../../src/domain/kernel/errors.ts"
import { systemScope, type TenantId } from "../../src/domain/kernel/scope.ts"
import type { CallContext } from "../../src/rpc/handler.ts"
import { type PagedRequest, Pages } from "../../src/services/paging.ts"

const pages = new Pages(randomBytes(32))
const sizes = { defaultSize: 50, maxSize: 1000 }

function context(tenant = "acme", method = "keelplane.v1.TestService/List"): CallContext {
  return {
    ...systemScope(tenant as TenantId),
    method,
    principal: { id: "local", platform: true, permissions: new Set(["*"]) },
    header: () => undefined,
    setTrailer: () => {},
  }
}

function request(fields: object = {}): PagedRequest {
  return { $typeName: "keelplane.v1.ListRequest", pageSize: 0, pageToken: "", ...fields } as PagedRequest
}

function refuses(reason: Reason, work: () => unknown): void {
  assert.throws(work, (thrown) => thrown instanceof DomainError && thrown.reason === reason)
}

describe("pages", () => {
  it("have a default size and a largest one", () => {
    assert.deepEqual(pages.request(context(), request(), sizes), { size: 50 })
    assert.equal(pages.request(context(), request({ pageSize: 7 }), sizes).size, 7)
    assert.equal(pages.request(context(), request({ pageSize: 5000 }), sizes).size, 1000)
    refuses("INVALID_FIELD", () => pages.request(context(), request({ pageSize: -1 }), sizes))
  })

  it("give back the cursor to the same question, also with another page size", () => {
    const cursor = ["2026-01-01", "id \u00e9", ""]
    const asked = { filter: "a = 1", n: 5n, bytes: new Uint8Array([1]), nested: { b: [1, 2], a: undefined } }
    const pageToken = pages.token(context(), request(asked), cursor)
    const again = { nested: { b: [1, 2] }, bytes: new Uint8Array([1]), filter: "a = 1", n: 5n }
    assert.deepEqual(
      pages.request(context(), request({ ...again, pageToken, pageSize: 3 }), sizes).cursor,
      cursor,
    )
    assert.equal(pages.token(context(), request(asked), undefined), "")
  })

  it("refuse a token of another tenant, method, question or daemon", () => {
    const pageToken = pages.token(context(), request({ filter: "a" }), ["x"])
    const open = (ctx: CallContext, fields: object) =>
      pages.request(ctx, request({ pageToken, ...fields }), sizes)
    assert.deepEqual(open(context(), { filter: "a" }).cursor, ["x"])
    refuses("INVALID_PAGE_TOKEN", () => open(context("globex"), { filter: "a" }))
    refuses("INVALID_PAGE_TOKEN", () =>
      open(context("acme", "keelplane.v1.TestService/Other"), { filter: "a" }),
    )
    refuses("INVALID_PAGE_TOKEN", () => open(context(), { filter: "b" }))
    refuses("INVALID_PAGE_TOKEN", () =>
      new Pages(randomBytes(32)).request(context(), request({ pageToken, filter: "a" }), sizes),
    )
  })

  it("refuse every altered token", () => {
    const token = pages.token(context(), request(), ["cursor"])
    const open = (pageToken: string) => () => pages.request(context(), request({ pageToken }), sizes)
    for (let index = 0; index < token.length; index++) {
      const other = token[index] === "A" ? "B" : "A"
      refuses("INVALID_PAGE_TOKEN", open(token.slice(0, index) + other + token.slice(index + 1)))
    }
    const nonsense = [
      "x",
      `${token}=`,
      `${token} `,
      token.slice(0, -4),
      "\u0000",
      "a".repeat(100_000),
      "AQ",
      `${token}${token}`,
    ]
    for (const each of nonsense) refuses("INVALID_PAGE_TOKEN", open(each))
  })

  it("seal resume tokens for one tenant, method and stream, and never as page tokens", () => {
    const token = pages.seal(context(), "events:orders", ["17"])
    assert.deepEqual(pages.open(context(), "events:orders", token), ["17"])
    refuses("INVALID_RESUME_TOKEN", () => pages.open(context("globex"), "events:orders", token))
    refuses("INVALID_RESUME_TOKEN", () => pages.open(context(), "events:other", token))
    refuses("INVALID_RESUME_TOKEN", () => pages.open(context(), "events:orders", ""))
    refuses("INVALID_PAGE_TOKEN", () => pages.request(context(), request({ pageToken: token }), sizes))
  })
})
