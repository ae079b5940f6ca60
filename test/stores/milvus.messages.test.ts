/** Our own Search and Query messages, held against the driver's. */
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { getGRPCService } from "@zilliz/milvus2-sdk-node"
import { checkStatus } from "../../src/stores/milvus/connection.ts"
import { MilvusStatusError } from "../../src/stores/milvus/errors.ts"
import {
  decodeQuery,
  decodeSearch,
  encodeQuery,
  encodeSearch,
  QUERY,
  SEARCH,
} from "../../src/stores/milvus/messages.ts"

const LOADER = { keepCase: true, longs: String, enums: String, defaults: true, oneofs: true }
const { service } = getGRPCService({ serviceName: "milvus.proto.milvus.MilvusService" }, LOADER)
const search = method("Search")
const query = method("Query")

const site = { collection: "keelplane_d3", partition: "p7", owner: "acme/1" }
const expression = { text: 'owner == "äcme/1" and metadata["a"] == {v0}', values: { v0: "wört", v1: "" } }
const vectors = [Float32Array.of(1, -0.5, 3e30), Float32Array.of(0, 0, 1)]

describe("requests", () => {
  it("go where the driver's go", () => {
    assert.equal(SEARCH, search.path)
    assert.equal(QUERY, query.path)
  })

  it("say of a search what the driver would", () => {
    const params = { ef: 200 }
    const bytes = encodeSearch({ site, expression, fields: ["pk", "metadata"], vectors, limit: 10, params })
    const told = search.requestDeserialize(bytes)
    const { placeholder_group: group, search_params: pairs, expr_template_values: values, ...rest } = told
    assert.deepEqual(Object.fromEntries((pairs as Pair[]).map(({ key, value }) => [key, value])), {
      anns_field: "embedding",
      params: '{"ef":200}',
      topk: "10",
      offset: "0",
      metric_type: "",
      ignore_growing: "false",
      ef: "200",
    })
    assert.deepEqual(templatesOf(values), { v0: "wört", v1: "" })
    const raw = Buffer.concat(vectors.map((vector) => Buffer.from(vector.buffer)))
    assert.ok(Buffer.from(group as Uint8Array).includes(raw.subarray(0, 12)))
    assert.ok(Buffer.from(group as Uint8Array).includes(raw.subarray(12)))
    const { collection_name, partition_names, dsl, dsl_type, output_fields, nq, consistency_level } = rest
    assert.deepEqual(
      { collection_name, partition_names, dsl, dsl_type, output_fields, nq, consistency_level },
      {
        collection_name: "keelplane_d3",
        partition_names: ["p7"],
        dsl: expression.text,
        dsl_type: "BoolExprV1",
        output_fields: ["pk", "metadata"],
        nq: "2",
        consistency_level: "Strong",
      },
    )
  })

  it("say of a query what the driver would, however long it is", () => {
    const text = `pk in [${'"x",'.repeat(5_000)}"x"]`
    const request = {
      site: { ...site, partition: undefined },
      expression: { text, values: {} },
      fields: ["pk"],
    }
    const told = query.requestDeserialize(encodeQuery(request, 7))
    assert.equal(told.expr, text)
    assert.deepEqual(told.partition_names, [])
    assert.deepEqual(told.query_params, [{ key: "limit", value: "7" }])
    assert.equal(told.consistency_level, "Strong")
    assert.deepEqual(query.requestDeserialize(encodeQuery(request, undefined)).query_params, [])
  })
})

describe("answers", () => {
  const longs = [
    "-1",
    "0",
    "127",
    "128",
    "4294967296",
    "9007199254740991",
    "9007199254740993",
    "-9223372036854775808",
  ]
  const columns = [
    {
      type: "VarChar",
      field_name: "pk",
      field_id: 9,
      scalars: { string_data: { data: longs.map((_, i) => `ö${i}`) } },
    },
    { type: "Int64", field_name: "revision", scalars: { long_data: { data: longs } } },
    {
      type: "JSON",
      field_name: "metadata",
      scalars: { json_data: { data: longs.map((_, i) => Buffer.from(i === 0 ? "{}" : `{"n":[${i}]}`)) } },
    },
    {
      type: "FloatVector",
      field_name: "embedding",
      vectors: { dim: 2, float_vector: { data: longs.flatMap((_, i) => [i, i + 0.5]) } },
    },
  ]
  const rows = longs.map((long, i) => ({
    pk: `ö${i}`,
    revision: Number.isSafeInteger(Number(long)) ? Number(long) : BigInt(long),
    metadata: i === 0 ? {} : { n: [i] },
    embedding: Float32Array.of(i, i + 0.5),
  }))

  it("of a search become rows with scores, a list for each vector", () => {
    const scores = longs.map((_, i) => i / 4)
    const results = {
      num_queries: 3,
      top_k: 5,
      topks: [5, 0, 3],
      scores,
      fields_data: columns,
      output_fields: ["pk"],
    }
    const answer = decodeSearch(
      search.responseSerialize({ status: {}, results, collection_name: "c", session_ts: 3 }),
    )
    checkStatus(answer)
    const scored = rows.map((row, i) => ({ score: i / 4, ...row }))
    assert.deepEqual(answer.lists, [scored.slice(0, 5), [], scored.slice(5)])
  })

  it("of a query become rows", () => {
    const answer = decodeQuery(query.responseSerialize({ fields_data: columns, collection_name: "c" }))
    checkStatus(answer)
    assert.deepEqual(
      answer.rows,
      rows.map((row) => ({ score: undefined, ...row })),
    )
    assert.deepEqual(decodeQuery(query.responseSerialize({})).rows, [])
  })

  it("that tell of a failure tell the same", () => {
    const words = ["RateLimit", "ForceDeny", "MemoryQuotaExhausted", "DiskQuotaExhausted", "NotReadyServe"]
    for (const word of [...words, "CollectionNotExists", "PermissionDenied", "UnexpectedError"]) {
      const status = { error_code: word, code: 65_535, reason: "ßo", retriable: true, detail: "d" }
      const told = caught(() => checkStatus(decodeSearch(search.responseSerialize({ status }))))
      assert.deepEqual([told.code, told.message], [65_535, "ßo"])
      if (word !== "UnexpectedError") assert.equal(told.word, word)
    }
  })

  it("that are cut off or no messages at all are refused", () => {
    const results = { topks: [8], scores: longs.map(Number), fields_data: columns }
    const whole = search.responseSerialize({ status: { reason: "fine" }, results })
    for (let end = 1; end < whole.length; end++) {
      const part = whole.subarray(0, end)
      // A cut between two fields leaves a shorter message.
      if (end !== whole.length - search.responseSerialize({ results }).length) {
        assert.throws(() => decodeSearch(part), Error, `${end} of ${whole.length} bytes`)
      }
    }
    assert.throws(() => decodeQuery(Buffer.from("<html>no such page</html>")), RangeError)
    const scoreless = search.responseSerialize({ results: { ...results, scores: [1] } })
    assert.throws(() => decodeSearch(scoreless), RangeError)
  })
})

interface Pair {
  readonly key: string
  readonly value: string
}

interface Method {
  readonly path: string
  requestDeserialize(bytes: Buffer): Record<string, unknown>
  responseSerialize(answer: object): Buffer
}

function method(name: string): Method {
  const found = service[name]
  assert.ok(found !== undefined)
  return found as unknown as Method
}

function templatesOf(values: unknown): Record<string, unknown> {
  const entries = Object.entries(values as Record<string, { readonly string_val?: string }>)
  return Object.fromEntries(entries.map(([name, value]) => [name, value.string_val]))
}

function caught(work: () => void): MilvusStatusError {
  try {
    work()
  } catch (error) {
    assert.ok(error instanceof MilvusStatusError)
    return error
  }
  assert.fail("no failure")
}
