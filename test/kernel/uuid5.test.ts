import assert from "node:assert/strict"
import { it } from "node:test"
import { uuid5 } from "../../src/domain/kernel/uuid5.ts"

it("makes the version 5 UUIDs that everybody else makes", () => {
  const dns = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
  // The example of RFC 9562.
  assert.equal(uuid5("www.example.com", dns), "2ed6657d-e927-568b-95e1-2665a8aea6a2")
  assert.equal(uuid5("www.example.com", dns.toUpperCase()), uuid5("www.example.com", dns))
  // Made by Python's uuid module.
  assert.equal(uuid5("", dns), "4ebd0208-8328-5d69-8c44-ec50939c0967")
  assert.equal(uuid5("größe", dns), "2ea9457d-e513-5521-a9bf-e7456b57cddd")
})
