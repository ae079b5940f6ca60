/** What gRPC asks of a server on the wire, by requests that no client library sends. */
import assert from "node:assert/strict"
import { constants } from "node:http2"
import { connect } from "node:net"
import { describe, it } from "node:test"
import { deflateSync, gzipSync } from "node:zlib"
import { create, toBinary } from "@bufbuild/protobuf"
import { open, type Way } from "./support/harness.ts"
import { type Echo, EchoRequestDesc, EchoResponseDesc } from "./support/probe.ts"
import { begin, flagged, openSession, post } from "./support/raw-http2.ts"

const OURS: readonly Way[] = ["http2 tcp", "http2 unix"]
const { NGHTTP2_CANCEL } = constants

function echo(init: Echo): Uint8Array {
  return toBinary(EchoRequestDesc, create(EchoRequestDesc, init as Record<string, unknown>))
}

const plain = (init: Echo) => flagged(0, echo(init))

for (const way of OURS) {
  describe(`requests over ${way}`, { timeout: 60_000 }, () => {
    it("may be compressed, message by message", async () => {
      await using edge = await open(way)
      using session = openSession(edge)
      for (const [encoding, pack] of [
        ["gzip", gzipSync],
        ["deflate", deflateSync],
      ] as const) {
        const text = "again and ".repeat(20)
        const headers = { "grpc-encoding": encoding }
        const one = await post(session, "Echo", flagged(1, pack(echo({ text }))), headers)
        assert.equal(one.code, 0)
        assert.deepEqual(
          one.messages<Echo>(EchoResponseDesc).map((each) => each.text),
          [text],
        )
        assert.equal(one.headers["grpc-encoding"], undefined, "answers are not compressed")
        const body = Buffer.concat([
          flagged(1, pack(echo({ text: "a" }))),
          plain({ text: "b" }),
          flagged(1, pack(echo({ text: "c" }))),
        ])
        const many = await post(session, "Collect", body, headers)
        assert.deepEqual(
          many.messages<Echo>(EchoResponseDesc).map((each) => each.text),
          ["a|b|c"],
        )
      }
      const identity = await post(session, "Echo", plain({}), { "grpc-encoding": "identity" })
      assert.equal(identity.code, 0)
    })

    it("are unpacked up to the limit of a message and no further", async () => {
      const maxMessageBytes = 100_000
      await using edge = await open(way, { limits: { maxMessageBytes } })
      using session = openSession(edge)
      const headers = { "grpc-encoding": "gzip" }
      const overhead = echo({ blob: new Uint8Array(90_000) }).length - 90_000
      const blob = (total: number) => flagged(1, gzipSync(echo({ blob: new Uint8Array(total - overhead) })))
      assert.equal((await post(session, "Echo", blob(maxMessageBytes), headers)).code, 0)
      for (const rpc of ["Echo", "Collect"]) {
        const bomb = await post(session, rpc, blob(maxMessageBytes + 1), headers)
        assert.deepEqual([bomb.code, bomb.reason], [3, "LIMIT_EXCEEDED"])
      }
    })

    it("that cannot be unpacked are the caller's fault", async () => {
      await using edge = await open(way)
      using session = openSession(edge)
      const packed = gzipSync(echo({ text: "broken" }))
      const headers = { "grpc-encoding": "gzip" }
      for (const rpc of ["Echo", "Collect"]) {
        for (const [body, more] of [
          [flagged(1, Buffer.from("no gzip at all")), headers],
          [flagged(1, packed.subarray(0, packed.length - 4)), headers],
          [flagged(1, Buffer.alloc(0)), headers],
          [flagged(1, packed), {}],
          [flagged(7, packed), headers],
        ] as const) {
          const answer = await post(session, rpc, body, more)
          assert.deepEqual([answer.code, answer.reason], [3, "MALFORMED_MESSAGE"], rpc)
        }
      }
      assert.deepEqual(edge.logged, [])
    })

    it("in an unknown encoding are refused with those that are known", async () => {
      await using edge = await open(way)
      using session = openSession(edge)
      const answer = await post(session, "Echo", flagged(1, echo({})), { "grpc-encoding": "snappy" })
      assert.deepEqual([answer.code, answer.reason], [12, "UNIMPLEMENTED"])
      assert.equal(answer.trailers["grpc-accept-encoding"], "identity,deflate,gzip")
    })

    it("have exactly one whole message where the method takes one", async () => {
      await using edge = await open(way)
      using session = openSession(edge)
      const one = plain({ text: "one" })
      for (const rpc of ["Echo", "Count"]) {
        for (const body of [
          Buffer.alloc(0),
          Buffer.concat([one, one]),
          Buffer.concat([one, one.subarray(0, 3)]),
          one.subarray(0, 3),
          one.subarray(0, one.length - 1),
        ]) {
          const answer = await post(session, rpc, body)
          assert.deepEqual([answer.code, answer.reason], [3, "MALFORMED_MESSAGE"], `${rpc} ${body.length}`)
        }
      }
      const cut = await post(session, "Collect", Buffer.concat([one, one.subarray(0, 7)]))
      assert.deepEqual([cut.code, cut.reason], [3, "MALFORMED_MESSAGE"])
      assert.equal(edge.log.started, 1)
    })

    it("may come in any pieces", async () => {
      await using edge = await open(way)
      using session = openSession(edge)
      const body = Buffer.concat([
        plain({ text: "in many" }),
        plain({ text: "pieces" }),
        plain({ text: "!" }),
      ])
      for (const size of [1, 2, 3, 7, 19]) {
        const { stream, answer } = begin(session, "Collect")
        for (let from = 0; from < body.length; from += size) {
          await new Promise((resolve) => stream.write(body.subarray(from, from + size), resolve))
        }
        stream.end()
        assert.equal((await answer).messages<Echo>(EchoResponseDesc)[0]?.text, "in many|pieces|!")
      }
      const blob = new Uint8Array(3_000_000).fill(5)
      const large = await post(session, "Echo", plain({ blob, text: "large" }))
      assert.equal(large.messages<Echo>(EchoResponseDesc)[0]?.text, "large")
    })

    it("that announce too much are refused before they have come", async () => {
      await using edge = await open(way, { limits: { maxMessageBytes: 100_000 } })
      using session = openSession(edge)
      const prefix = Buffer.alloc(5)
      prefix.writeUInt32BE(0xffff_fff0, 1)
      for (const rpc of ["Echo", "Collect"]) {
        const { stream, answer } = begin(session, rpc)
        stream.write(prefix)
        const ended = new Promise<number>((resolve) => {
          stream.on("response", (headers) => resolve(Number(headers["grpc-status"])))
        })
        assert.equal(await ended, 3, rpc)
        stream.close(NGHTTP2_CANCEL)
        assert.equal((await answer).reason, "LIMIT_EXCEEDED")
      }
    })

    it("that do not come are answered at their deadline, with its reason", async () => {
      await using edge = await open(way)
      using session = openSession(edge)
      for (const rpc of ["Echo", "Collect"]) {
        const { stream, answer } = begin(session, rpc, { "grpc-timeout": "300m" })
        stream.write(plain({ text: "and then nothing" }).subarray(0, 9))
        stream.on("response", () => stream.close(NGHTTP2_CANCEL))
        const { code, reason } = await answer
        assert.deepEqual([code, reason], [4, "DEADLINE_EXCEEDED"], rpc)
      }
    })

    it("in another format than gRPC's are told so", async () => {
      await using edge = await open(way)
      using session = openSession(edge)
      const send = (type: string, more = {}) =>
        post(session, "Echo", plain({ text: "x" }), { "content-type": type, ...more })
      for (const type of ["application/grpc+proto", "application/grpc; charset=utf-8", "Application/GRPC"]) {
        assert.equal((await send(type)).code, 0, type)
      }
      for (const type of ["application/json", "application/grpc-web", "text/plain", "application/grpcx"]) {
        assert.equal((await send(type)).headers[":status"], 415, type)
      }
      const json = await send("application/grpc+json")
      assert.deepEqual([json.code, json.reason], [12, "UNIMPLEMENTED"])
      assert.equal((await send("application/grpc", { ":method": "PUT" })).headers[":status"], 405)
    })
  })

  describe(`metadata over ${way}`, { timeout: 60_000 }, () => {
    it("gives binary values in one form of base64", async () => {
      const seen: (string | undefined)[] = []
      await using edge = await open(way, {
        observer: {
          onStart(_method, header) {
            seen.push(header("x-some-bin"), header("x-some"), header("x-none"))
            return undefined
          },
        },
      })
      using session = openSession(edge)
      for (const value of ["AQI", "AQI=", "AQI=,AwQ="]) {
        await post(session, "Echo", plain({}), { "x-some-bin": value, "x-some": "AQI" })
        assert.deepEqual(seen.splice(0), ["AQI=", "AQI", undefined])
      }
    })

    it("sends messages of failures percent-encoded, and no more of them than needed", async () => {
      await using edge = await open(way)
      using session = openSession(edge)
      const odd = await post(session, "Echo", plain({ act: "surrogate" }))
      assert.equal(odd.trailers["grpc-message"], "half a pair: %EF%BF%BD and a%0Aline")
      const named = await post(session, "Nothing%/\u00e9?", plain({}))
      assert.match(String(named.trailers["grpc-message"]), /^there is no RPC [\x20-\x7e]+Nothing%25\//)
      assert.equal(named.reason, "UNIMPLEMENTED")
    })
  })

  describe(`connections over ${way}`, { timeout: 60_000 }, () => {
    it("answer pings, and outlive calls that are reset at any point", async () => {
      await using edge = await open(way)
      using session = openSession(edge)
      const body = plain({ text: "whole", act: "later" })
      for (let sent = 0; sent <= body.length; sent += 4) {
        for (const code of [constants.NGHTTP2_NO_ERROR, NGHTTP2_CANCEL, constants.NGHTTP2_INTERNAL_ERROR]) {
          const { stream, answer } = begin(session, "Echo")
          stream.write(body.subarray(0, sent))
          if (sent >= body.length) stream.end()
          setImmediate(() => stream.close(code))
          await answer
        }
      }
      await new Promise<void>((resolve, reject) => {
        session.ping((error) => (error === null ? resolve() : reject(error)))
      })
      assert.equal((await post(session, "Echo", plain({ text: "alive" }))).code, 0)
      assert.equal(edge.server.stats().inFlight, 0)
      assert.deepEqual(edge.logged, [])
    })

    it("that break take their calls with them and nothing else", async () => {
      await using edge = await open(way)
      using other = openSession(edge)
      const session = openSession(edge)
      const waiting = [post(session, "Echo", plain({ act: "hang" })), begin(session, "Echo").answer]
      await edge.log.until(() => edge.log.started === 1)
      session.destroy()
      await Promise.all(waiting)
      await edge.log.until(() => edge.log.aborted.length === 1)
      assert.deepEqual(edge.log.aborted, ["CANCELLED"])
      const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
      for (const junk of ["\0\0\0\x09\0\0\0\0\0", "\xff".repeat(100), "\0\x40\0\0\0\0\0\0\x01junk"]) {
        const where = edge.target.startsWith("unix:") ? { path: edge.socketFile } : { ...edge.tcp }
        const socket = connect(where)
        socket.on("error", () => {})
        const closed = new Promise((resolve) => socket.once("close", resolve).resume())
        socket.end(Buffer.from(preface + junk, "latin1"))
        await closed
      }
      assert.equal((await post(other, "Echo", plain({ text: "alive" }))).code, 0)
    })

    it("are told to go away by a drain, once their calls have ended", async () => {
      await using edge = await open(way)
      using session = openSession(edge)
      const goneAway = new Promise((resolve) => session.once("goaway", resolve))
      const { stream, answer } = begin(session, "Collect")
      stream.write(plain({ text: "before" }))
      await edge.log.until(() => edge.log.started === 1)
      const drained = edge.server.drain(20_000)
      const [code] = await Promise.all([goneAway, drained])
      assert.equal(code, constants.NGHTTP2_NO_ERROR)
      assert.equal((await answer).reason, "DRAINING")
    })
  })
}
