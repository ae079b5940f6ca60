/** What each failure of the driver says about a statement: not applied, unknown, or somebody's fault. */
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import cassandra from "cassandra-driver"
import type { Reason } from "../../src/domain/kernel/errors.ts"
import { systemScope } from "../../src/domain/kernel/scope.ts"
import { connectError, type Effect, toDomainError } from "../../src/stores/cassandra/errors.ts"
import { parseClusterUrl } from "../../src/stores/cassandra/url.ts"

const { errors, types } = cassandra
const codes = types.responseErrorCodes
const scope = systemScope()

function refusal(code: number, message = "secret text", consistency?: number): Error {
  const error = new errors.ResponseError(code, message)
  return consistency === undefined ? error : Object.assign(error, { consistencies: consistency })
}

function reasons(error: Error): Record<Effect, Reason> {
  const of = (effect: Effect) => toDomainError(error, effect, scope).reason
  return { read: of("read"), write: of("write"), cas: of("cas") }
}

const same = (reason: Reason): Record<Effect, Reason> => ({ read: reason, write: reason, cas: reason })
const SENT = { read: "STORE_UNAVAILABLE", write: "OUTCOME_UNKNOWN", cas: "OUTCOME_UNKNOWN" } as const

describe("failures of Cassandra", () => {
  it("are unknown only where a write may have taken place", () => {
    const { localQuorum, localSerial } = types.consistencies
    const unavailable = (level: number) => reasons(refusal(codes.unavailableException, "", level))
    assert.deepEqual(unavailable(localSerial), same("STORE_UNAVAILABLE"))
    assert.deepEqual(unavailable(localQuorum), { ...same("STORE_UNAVAILABLE"), cas: "OUTCOME_UNKNOWN" })
    for (const code of [codes.writeTimeout, codes.writeFailure, codes.readTimeout, codes.readFailure])
      assert.deepEqual(reasons(refusal(code)).cas, "OUTCOME_UNKNOWN")
    assert.deepEqual(reasons(refusal(codes.readTimeout)), SENT)
    assert.deepEqual(reasons(refusal(0x1700)).cas, "OUTCOME_UNKNOWN")
    assert.deepEqual(reasons(refusal(codes.overloaded)), {
      ...same("STORE_UNAVAILABLE"),
      cas: "OUTCOME_UNKNOWN",
    })
    assert.deepEqual(reasons(refusal(codes.isBootstrapping)), same("STORE_UNAVAILABLE"))
    assert.deepEqual(reasons(new errors.OperationTimedOutError("late")), SENT)
    const lost = Object.assign(new Error("Socket was closed"), { isSocketError: true })
    assert.deepEqual(reasons(lost), SENT)
    const unsent = Object.assign(lost, { requestNotWritten: true })
    assert.deepEqual(reasons(unsent), same("STORE_UNAVAILABLE"))
    // The driver's bare words for a statement that it would prepare on a node whose connections have just ended.
    assert.deepEqual(reasons(new Error("No connection available")), same("STORE_UNAVAILABLE"))
    assert.deepEqual(reasons(new errors.NoHostAvailableError({})), same("STORE_UNAVAILABLE"))
    assert.deepEqual(reasons(new errors.BusyConnectionError("h", 1, 1)), same("OVERLOADED"))
  })

  it("name the deadline where that is what ended a read", () => {
    const late = { ...scope, deadlineMs: 1 }
    const error = new errors.OperationTimedOutError("late")
    assert.equal(toDomainError(error, "read", late).reason, "DEADLINE_EXCEEDED")
    assert.equal(toDomainError(error, "cas", late).reason, "OUTCOME_UNKNOWN")
  })

  it("tell missing tables, refused logins and our own mistakes apart, in our words only", () => {
    assert.deepEqual(reasons(refusal(codes.invalid, "unconfigured table x")), same("SCHEMA_MISMATCH"))
    assert.deepEqual(reasons(refusal(codes.invalid, "table x does not exist")), same("SCHEMA_MISMATCH"))
    assert.deepEqual(reasons(refusal(codes.invalid, "Undefined column name x")), same("SCHEMA_MISMATCH"))
    assert.deepEqual(reasons(refusal(codes.unauthorized)), same("STORE_AUTH"))
    assert.deepEqual(reasons(refusal(codes.syntaxError)), same("INTERNAL"))
    assert.deepEqual(reasons(new TypeError("secret text")), same("INTERNAL"))
    const login = new errors.AuthenticationError("secret text")
    assert.equal(connectError(new errors.NoHostAvailableError({ h: login })).reason, "STORE_AUTH")
    assert.equal(connectError(new Error("secret text")).reason, "STORE_UNAVAILABLE")
    for (const code of Object.values(codes).filter((code) => typeof code === "number"))
      assert.ok(!toDomainError(refusal(code), "cas", scope).message.includes("secret"))
  })
})

describe("the URL of a cluster", () => {
  it("says all that there is to say", () => {
    const url =
      "scylla://us%40er:p%3Ass@a:1,b,[::1]:3/k_1?dc=dc-1&replication=dc-1:3,dc2:2&tls=true&ca_file=/ca.pem"
    assert.deepEqual(parseClusterUrl(url), {
      contactPoints: ["a:1", "b:9042", "[::1]:3"],
      keyspace: "k_1",
      dataCenter: "dc-1",
      user: "us@er",
      password: "p:ss",
      replication: {
        strategy: "network",
        copies: new Map([
          ["dc-1", 3],
          ["dc2", 2],
        ]),
      },
      tls: "verify-full",
      caFile: "/ca.pem",
    })
    const simple = parseClusterUrl("cassandra://h/k?replication=3&strategy=simple&tls=verify-ca")
    assert.deepEqual([simple.replication, simple.tls], [{ strategy: "simple", copies: 3 }, "verify-ca"])
  })
})
