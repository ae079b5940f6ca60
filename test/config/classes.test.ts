/** Classes of tenants in the configuration. */
import assert from "node:assert/strict"
import { test } from "node:test"
import { ConfigError, loadConfig } from "../../src/config/load.ts"

const load = (classes: unknown, more: Record<string, string> = {}) =>
  loadConfig({ env: { KEELPLANE_RETENTION__CLASSES: JSON.stringify(classes), ...more } }).config.retention

function refused(classes: unknown, more: Record<string, string> = {}): readonly string[] {
  try {
    load(classes, more)
  } catch (error) {
    assert.ok(error instanceof ConfigError)
    return error.violations.map(({ key, message }) => `${key}: ${message}`)
  }
  return []
}

test("a class says what is different about it, and may be set key by key", () => {
  const classes = { trial: { tenants: ["trial-*", "acme"], jobs_days: 7 } }
  assert.deepEqual(load(classes).classes, classes)
  assert.deepEqual(load({}).classes, {})
  const byKey = {
    KEELPLANE_RETENTION__CLASSES__LONG_LIVED__TENANTS: '["bank"]',
    KEELPLANE_RETENTION__CLASSES__LONG_LIVED__AUDIT_YEARS: "10",
  }
  assert.deepEqual(loadConfig({ env: byKey }).config.retention.classes, {
    long_lived: { tenants: ["bank"], audit_years: 10 },
  })
})

test("no tenant is in two classes", () => {
  const pairs: readonly (readonly [string[], string[], boolean])[] = [
    [["a", "b"], ["c", "a"], true],
    [["a-*"], ["b", "a-1"], true],
    [["a-1"], ["a-*"], true],
    [["a-*"], ["a-b-*"], true],
    [["a-b-*"], ["a-*"], true],
    [["a-*"], ["a", "b-*", "a_1"], false],
    [["a"], ["aa"], false],
  ]
  for (const [one, two, shared] of pairs) {
    const found = refused({ one: { tenants: one }, two: { tenants: two } })
    assert.equal(found.length, shared ? 1 : 0, JSON.stringify([one, two]))
    for (const text of found)
      assert.match(text, /^retention\.classes\.two\.tenants: .*retention\.classes\.one/)
  }
  assert.deepEqual(refused({ one: { tenants: ["a-*", "a-1"] } }), [])
})

test("names that would be none of a table, tenants that cannot be, and times that are too short are refused", () => {
  const tenants = ["a"]
  const keys = (classes: unknown) => refused(classes).map((text) => text.split(":")[0])
  for (const name of ["", "A", "1a", "a-b", "a__b", "a_", "a".repeat(25), "a;b", "a b"]) {
    assert.deepEqual(keys({ [name]: { tenants } }), [`retention.classes.${name}`], name)
  }
  for (const name of ["a", "a1", "a_b_1", "a".repeat(24)]) assert.deepEqual(keys({ [name]: { tenants } }), [])
  for (const tenant of ["", "*", "A", "a**", "*a", "a b", "-a"]) {
    assert.deepEqual(keys({ x: { tenants: [tenant] } }), ["retention.classes.x.tenants.0"], tenant)
  }
  assert.deepEqual(keys({ x: { tenants: [] } }), ["retention.classes.x.tenants"])
  assert.deepEqual(keys({ x: {} }), ["retention.classes.x.tenants"])
  assert.deepEqual(keys({ x: { tenants, audit_years: 6 } }), ["retention.classes.x.audit_years"])
  assert.deepEqual(keys({ x: { tenants, jobs_day: 6 } }), ["retention.classes.x.jobs_day"])
})

test("a history of jobs on a cluster keeps no class for longer than it can", () => {
  const classes = { x: { tenants: ["a"], jobs_days: 1_826 } }
  assert.deepEqual(refused(classes), [])
  const cluster = { KEELPLANE_STORES__EVENTS__URL: "cassandra://h/k" }
  assert.match(refused(classes, cluster).join(), /^retention\.classes\.x\.jobs_days: .*1825 days/)
  assert.deepEqual(refused(classes, { ...cluster, KEELPLANE_STORES__EVENTS__JOB_HISTORY: "false" }), [])
})
