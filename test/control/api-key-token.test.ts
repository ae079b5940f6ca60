import assert from "node:assert/strict"
import { describe, it } from "node:test"
import fc from "fast-check"
import { createTokenMinter, parseToken } from "../../src/domain/control/api-key-token.ts"

describe("API key tokens", () => {
  const minter = createTokenMinter()

  it("carry their id and notice every changed character", () => {
    const id = minter.id()
    const token = minter.token(id, minter.nonce())
    assert.equal(parseToken(token), id)
    for (let at = 0; at < token.length; at++) {
      const other = token[at] === "A" ? "B" : "A"
      assert.equal(parseToken(token.slice(0, at) + other + token.slice(at + 1)), undefined, `position ${at}`)
    }
  })

  it("cannot be made from id and nonce by anyone else", () => {
    const id = minter.id()
    const nonce = minter.nonce()
    assert.equal(minter.token(id, nonce), minter.token(id, nonce))
    assert.notEqual(createTokenMinter().token(id, nonce), minter.token(id, nonce))
    assert.notEqual(minter.token(minter.id(), nonce).slice(20), minter.token(id, nonce).slice(20))
  })

  it("are not confused with anything else", () => {
    fc.assert(fc.property(fc.string(), (text) => parseToken(text) === undefined))
  })
})
