/** Dapr's sidecar on the same Redis, for a get and a save. On loopback only, and without the name resolution that sends multicast. */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { endWithProcess } from "../../test/support/children.ts"
import { freePorts } from "../../test/support/free-ports.ts"
import { until } from "../../test/support/until.ts"
import { send } from "../load.ts"
import type { Server } from "../measure.ts"
import { daprdProgram } from "./daprd-install.ts"
import type { PeerWork } from "./engine.ts"

const READY_MS = 120_000
const KEYS = 1_000
const STORE = "redis"
const SERVICE = "/dapr.proto.runtime.v1.Dapr"

/** A field of a message that is text, bytes or a message itself, as protobuf puts it; shorter than 128 bytes of length need one byte. */
function field(number: number, value: string | Uint8Array): Buffer {
  const bytes = Buffer.from(value)
  const size = bytes.length < 128 ? [bytes.length] : [(bytes.length & 0x7f) | 0x80, bytes.length >> 7]
  return Buffer.concat([Buffer.from([(number << 3) | 2, ...size]), bytes])
}

const keys = Array.from({ length: KEYS }, (_, index) => `key-${index}`)
const value = new Uint8Array(128).fill(7)

/** Its calls that stand beside the cache's. */
export const PEER_WORKS: Readonly<Record<"get" | "set", PeerWork>> = {
  get: {
    path: `${SERVICE}/GetState`,
    bodies: keys.map((key) => Buffer.concat([field(1, STORE), field(2, key)])),
  },
  set: {
    path: `${SERVICE}/SaveState`,
    bodies: keys.map((key) =>
      Buffer.concat([field(1, STORE), field(2, Buffer.concat([field(1, key), field(2, value)]))]),
    ),
  },
}

function configure(folder: string, redis: string): void {
  const component = (kind: string, fields: Readonly<Record<string, string>>) =>
    [
      "apiVersion: dapr.io/v1alpha1",
      "kind: Component",
      `metadata: {name: ${STORE}}`,
      "spec:",
      `  type: ${kind}`,
      "  version: v1",
      "  metadata:",
      ...Object.entries(fields).map(([name, text]) => `  - {name: ${name}, value: "${text}"}`),
      "",
    ].join("\n")
  const resolution = `{component: sqlite, version: v1, configuration: {connectionString: "${join(folder, "names.db")}"}}`
  mkdirSync(join(folder, "components"))
  writeFileSync(
    join(folder, "components", "state.yaml"),
    component("state.redis", { redisHost: new URL(redis).host, redisPassword: "" }),
  )
  writeFileSync(
    join(folder, "config.yaml"),
    `apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata: {name: bench}\nspec:\n  nameResolution: ${resolution}\n  metric: {enabled: false}\n`,
  )
}

/** Starts it on the server and saves what is read. */
export async function startDaprd(redis: string): Promise<Server & { stop(): Promise<void> }> {
  const program = await daprdProgram()
  const folder = mkdtempSync(join(tmpdir(), "keelplane-daprd-run-"))
  configure(folder, redis)
  const [http, grpc] = await freePorts("127.0.0.1", 2)
  const flags = {
    "app-id": "bench",
    "resources-path": join(folder, "components"),
    config: join(folder, "config.yaml"),
    "dapr-http-port": http,
    "dapr-grpc-port": grpc,
    "dapr-listen-addresses": "127.0.0.1",
    "dapr-internal-grpc-listen-address": "127.0.0.1",
    "enable-metrics": false,
    "log-level": "error",
  }
  const child = spawn(
    program,
    Object.entries(flags).map(([name, text]) => `--${name}=${text}`),
    { stdio: "ignore", env: { ...process.env, DAPR_HOST_IP: "127.0.0.1" } },
  )
  endWithProcess(child)
  const ended = once(child, "exit")
  const healthy = () =>
    fetch(`http://127.0.0.1:${http}/v1.0/healthz/outbound`).then(
      (answer) => answer.ok,
      () => false,
    )
  await until(
    "daprd is ready",
    async () => {
      if (child.exitCode !== null) throw new Error(`daprd ended with ${child.exitCode}`)
      return await healthy()
    },
    READY_MS,
  )
  const server = { address: `127.0.0.1:${grpc}`, pid: child.pid ?? 0 }
  await send(server.address, server.pid, {
    ...PEER_WORKS.set,
    inFlight: 16,
    durationMs: 1,
    leastCalls: KEYS,
  })
  const stop = async () => {
    child.kill("SIGKILL")
    await ended
    rmSync(folder, { recursive: true, force: true })
  }
  return { ...server, stop }
}
