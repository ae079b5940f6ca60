/** The forms of a URL, and the slots of keys. */
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { parseAddress } from "../../src/stores/redis/address.ts"
import { slotOf } from "../../src/stores/redis/slots.ts"

describe("redis addresses", () => {
  it("takes one server, the nodes of a cluster, and sentinels", () => {
    const single = parseAddress("rediss://us%40er:p%3Aw@db.example/3?ca_file=/ca.pem&server_name=x")
    assert.deepEqual(single.endpoints, [{ host: "db.example", port: 6_379 }])
    assert.deepEqual(
      [single.kind, single.user, single.password, single.database],
      ["single", "us@er", "p:w", 3],
    )
    assert.deepEqual(single.tls, { ca: "/ca.pem", certificate: undefined, key: undefined, serverName: "x" })
    const cluster = parseAddress("redis+cluster://:pw@a:1,[::1]:2,c")
    assert.deepEqual(
      cluster.endpoints.map(({ host, port }) => `${host} ${port}`),
      ["a 1", "::1 2", "c 6379"],
    )
    assert.deepEqual([cluster.user, cluster.password, cluster.tls], [undefined, "pw", undefined])
    const sentinel = parseAddress("redis+sentinel://s1,s2:1/main?db=2&password_file=/p")
    assert.deepEqual([sentinel.master, sentinel.database, sentinel.passwordFile], ["main", 2, "/p"])
    assert.equal(sentinel.endpoints[0]?.port, 26_379)
  })

  it("says what is wrong without a word of the credentials", () => {
    const secret = "s3cr3t"
    for (const [rest, expected] of [
      ["://u:s3cr3t@a,b", /one host/],
      ["://u:s3cr3t@a:99999", /host:port/],
      ["://u:s3cr3t@a/x", /database/],
      ["://u:s3cr3t@a?passwrod=1", /unknown option passwrod/],
      ["+sentinel://u:s3cr3t@a", /name of the master/],
      ["+cluster://u:s3cr3t@a?db=1", /only the database 0/],
      ["+other://u:s3cr3t@a", /must be redis/],
      ["://u:s3cr3t%@a", /percent/],
    ] as const) {
      assert.throws(
        () => parseAddress(`redis${rest}`),
        (error: unknown) => {
          assert.ok(error instanceof TypeError, String(error))
          assert.match(error.message, expected)
          assert.ok(!error.message.includes(secret))
          return true
        },
      )
    }
  })

  it("knows the slots of keys as the server does", () => {
    const slots = ["123456789", "foo{}{bar}", "a{b}{c}", "x{b}", "{}x", "é"].map(slotOf)
    assert.equal(slots[0], 0x31c3 % 16_384)
    assert.equal(slots[1], 8_363)
    assert.equal(slots[2], slots[3])
  })
})
