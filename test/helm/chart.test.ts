/** The chart: linted, rendered and held against a golden file (UPDATE_GOLDEN=1 rewrites it after a deliberate change). */
import assert from "node:assert/strict"
import { execFile } from "node:child_process"
import { existsSync, readFileSync, writeFileSync } from "node:fs"
import test from "node:test"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { parseAllDocuments } from "yaml"
import { goTool, pathOf, skipReason } from "../support/tools.ts"

const run = promisify(execFile)
const chart = fileURLToPath(new URL("../../helm/keelplane", import.meta.url))
const goldenFile = fileURLToPath(new URL("./render.golden.yaml", import.meta.url))
const helm = await goTool("helm")
const skip = skipReason(helm)
const TOKEN = "auth.token=a-token-for-tests-only-0123456789abcdef"

interface Manifest {
  kind: string
  metadata: { name: string }
  spec: {
    replicas?: number
    initContainers?: { name: string; restartPolicy?: string; args: string[]; startupProbe?: object }[]
    containers?: { name: string; securityContext?: { readOnlyRootFilesystem?: boolean } }[]
  }
  data?: Record<string, string>
}

async function template(...args: string[]): Promise<string> {
  const { stdout } = await run(
    pathOf(helm),
    ["template", "kp", chart, "--namespace", "agents", "--kube-version", "1.34.0", ...args],
    {
      maxBuffer: 1 << 24,
    },
  )
  return stdout
}

function manifests(text: string): Manifest[] {
  return parseAllDocuments(text)
    .map((document) => document.toJS() as Manifest | null)
    .filter((value) => value !== null)
}

test("the chart passes helm lint", { skip }, async () => {
  const { stdout } = await run(pathOf(helm), ["lint", "--strict", chart, "--set", TOKEN])
  assert.match(stdout, /0 chart\(s\) failed/)
})

test("rendered with the example, the manifests are the golden ones", { skip }, async () => {
  const text = await template("--set", TOKEN, "--set", "example.enabled=true")
  if (process.env.UPDATE_GOLDEN || !existsSync(goldenFile)) writeFileSync(goldenFile, text)
  assert.equal(text, readFileSync(goldenFile, "utf8"))
})

test("the shared daemon asks for credentials and the example's sidecar stays on loopback", {
  skip,
}, async () => {
  const all = manifests(await template("--set", TOKEN, "--set", "example.enabled=true"))
  const config = all.find((each) => each.kind === "ConfigMap")?.data?.["keelplane.yaml"] ?? ""
  assert.match(config, /mode: required/)
  const pod = all.find((each) => each.kind === "Pod")
  const sidecar = pod?.spec.initContainers?.[0]
  assert.equal(sidecar?.restartPolicy, "Always")
  assert.ok(sidecar?.startupProbe, "the agent must not start before the daemon is ready")
  assert.ok(sidecar?.args.includes("127.0.0.1:50051"))
  for (const container of pod?.spec.containers ?? []) {
    assert.equal(container.securityContext?.readOnlyRootFilesystem, true)
  }
})

test("without a credential the chart refuses to render", { skip }, async () => {
  await assert.rejects(template(), /never runs without authentication/)
})

test("values that the schema does not know are refused", { skip }, async () => {
  await assert.rejects(template("--set", TOKEN, "--set", "replica=2"), /additional propert/i)
  await assert.rejects(template("--set", TOKEN, "--set", "replicas=2"), /maximum/i)
  await assert.rejects(template("--set", TOKEN, "--set", "config.data_dir=/x"), /data_dir/)
})

test("the rendered configuration is one that the daemon accepts", { skip }, async () => {
  const all = manifests(await template("--set", TOKEN))
  const config = all.find((each) => each.kind === "ConfigMap")?.data?.["keelplane.yaml"] ?? ""
  assert.ok(config.length > 0)
  const { loadConfigText } = await import("./config-check.ts")
  await loadConfigText(config)
})
