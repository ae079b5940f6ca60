/** One node of Cassandra as a process: its configuration, its start, its end. */
import { type ChildProcess, spawn } from "node:child_process"
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { connect } from "node:net"
import { join } from "node:path"

/** What a node is started from and where. */
export interface NodePlan {
  readonly java: string
  readonly jars: string
  /** Its files; removed when it ends. */
  readonly folder: string
  readonly ip: string
  readonly cqlPort: number
  readonly storagePort: number
  readonly seed: string
  /** Where in the ring of how many it stands. */
  readonly place: readonly [index: number, of: number]
  readonly heapMb: number
  /** Whether logins are asked for (`cassandra` / `cassandra`). */
  readonly logins?: boolean
  /** Whether it answers a write only once that is in its log, as nodes that are the only one must; ordinary ones sync each second. */
  readonly durable?: boolean
}

/** A node that runs. */
export interface RunningNode {
  readonly pid: number
  readonly cqlPort: number
  readonly ip: string
  /** Kills it, stopped or not, and removes its files. */
  stop(): Promise<void>
}

const READY_MS = 300_000

/** Starts a node and waits until it takes connections. */
export async function startNode(plan: NodePlan): Promise<RunningNode> {
  for (const name of ["conf", "data", "logs", "triggers"])
    mkdirSync(join(plan.folder, name), { recursive: true })
  writeFileSync(join(plan.folder, "conf", "cassandra.yaml"), yamlOf(plan))
  writeFileSync(join(plan.folder, "conf", "logback.xml"), logbackOf(plan.folder))
  // The shell ends the node when we are gone, however we went: its standard input ends with us.
  const script = `exec 3<&0; "$0" "$@" & node=$!; (cat <&3 >/dev/null; kill -9 $node 2>/dev/null) & echo $node; wait $node`
  const child = spawn("sh", ["-c", script, plan.java, ...argumentsOf(plan)], {
    stdio: ["pipe", "pipe", "ignore"],
    detached: true,
  })
  const ended = new Promise<void>((resolve) => child.once("close", () => resolve()))
  const pid = await pidFrom(child)
  const stop = async () => {
    end(pid)
    child.stdin?.end()
    await ended
    rmSync(plan.folder, { recursive: true, force: true })
  }
  try {
    await answering(plan, () => child.exitCode !== null)
  } catch (error) {
    const log = tailOf(join(plan.folder, "logs", "system.log"))
    await stop()
    throw new Error(`no Cassandra answers on ${plan.ip}:${plan.cqlPort}: ${log}`, { cause: error })
  }
  return { pid, cqlPort: plan.cqlPort, ip: plan.ip, stop }
}

function end(pid: number): void {
  try {
    process.kill(pid, "SIGKILL")
  } catch (error) {
    // It is gone already.
    if (!(error instanceof Error && "code" in error && error.code === "ESRCH")) throw error
  }
}

async function pidFrom(child: ChildProcess): Promise<number> {
  if (child.stdout === null) throw new Error("the shell has no output")
  let text = ""
  for await (const chunk of child.stdout.iterator({ destroyOnReturn: false })) {
    text += String(chunk)
    if (text.includes("\n")) break
  }
  child.stdout.resume()
  const pid = Number(text.trim())
  if (!(pid > 0)) throw new Error("the shell did not say which process the node is")
  return pid
}

async function answering({ ip, cqlPort }: NodePlan, isDead: () => boolean): Promise<void> {
  const until = Date.now() + READY_MS
  while (Date.now() < until && !isDead()) {
    if (await accepts(ip, cqlPort)) return
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  throw new Error(isDead() ? "it ended" : "it took too long")
}

function accepts(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port })
    socket.once("connect", () => {
      socket.destroy()
      resolve(true)
    })
    socket.once("error", () => resolve(false))
  })
}

function tailOf(log: string): string {
  try {
    return readFileSync(log, "utf8").split("\n").slice(-6).join(" | ").slice(-600)
  } catch {
    return "it wrote no log"
  }
}

function yamlOf({ folder, ip, cqlPort, storagePort, seed, place, logins, durable }: NodePlan): string {
  const [index, of] = place
  const token = -(2n ** 63n) + (2n ** 64n / BigInt(of)) * BigInt(index)
  return `cluster_name: keelplane-test
num_tokens: 1
initial_token: "${token}"
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
endpoint_snitch: SimpleSnitch
dynamic_snitch: false
auto_bootstrap: false
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters: [{ seeds: "${seed}" }]
listen_address: ${ip}
rpc_address: ${ip}
storage_port: ${storagePort}
native_transport_port: ${cqlPort}
start_native_transport: true
authenticator: ${logins === true ? "PasswordAuthenticator" : "AllowAllAuthenticator"}
authorizer: ${logins === true ? "CassandraAuthorizer" : "AllowAllAuthorizer"}
data_file_directories: [ "${folder}/data" ]
commitlog_directory: ${folder}/commitlog
hints_directory: ${folder}/hints
saved_caches_directory: ${folder}/saved_caches
cdc_raw_directory: ${folder}/cdc
${durable === true ? "commitlog_sync: batch" : "commitlog_sync: periodic\ncommitlog_sync_period: 1000ms"}
commitlog_segment_size: 32MiB
commitlog_total_space: 256MiB
memtable_heap_space: 96MiB
memtable_offheap_space: 96MiB
key_cache_size: 8MiB
counter_cache_size: 4MiB
file_cache_size: 64MiB
concurrent_reads: 8
concurrent_writes: 8
concurrent_counter_writes: 4
concurrent_compactors: 1
auto_snapshot: false
materialized_views_enabled: false
disk_failure_policy: die
commit_failure_policy: die
request_timeout: 5000ms
read_request_timeout: 5000ms
range_request_timeout: 10000ms
write_request_timeout: 5000ms
cas_contention_timeout: 5000ms
`
}

function logbackOf(folder: string): string {
  return `<configuration><appender name="F" class="ch.qos.logback.core.FileAppender"><file>${folder}/logs/system.log</file>
<encoder><pattern>%-5level %d{HH:mm:ss.SSS} [%thread] %logger{0} - %msg%n</pattern></encoder></appender>
<root level="INFO"><appender-ref ref="F"/></root></configuration>
`
}

const OPENED = [
  "java.lang",
  "java.lang.module",
  "java.lang.reflect",
  "java.io",
  "java.nio",
  "java.util",
  "java.util.concurrent",
  "java.util.concurrent.atomic",
  "sun.nio.ch",
  "jdk.internal.loader",
  "jdk.internal.ref",
  "jdk.internal.reflect",
  "jdk.internal.math",
  "jdk.internal.module",
  "jdk.internal.util.jar",
].map((name) => `java.base/${name}`)
const EXPORTED = [
  "java.base/jdk.internal.misc",
  "java.base/java.lang.ref",
  "java.management.rmi/com.sun.jmx.remote.internal.rmi",
  "java.rmi/sun.rmi.registry",
  "java.rmi/sun.rmi.server",
  "java.sql/java.sql",
  "jdk.unsupported/sun.misc",
  "jdk.attach/sun.tools.attach",
]

function argumentsOf({ jars, folder, heapMb, logins }: NodePlan): readonly string[] {
  const names = readdirSync(jars).sort()
  const agent = names.find((name) => name.startsWith("jamm-")) ?? ""
  const opened = [...OPENED, "jdk.management/com.sun.management.internal"]
  return [
    "-Xms128M",
    `-Xmx${heapMb}M`,
    "-Xss512k",
    "-XX:+UseSerialGC",
    "-XX:MaxDirectMemorySize=256M",
    // The second compiler costs more at the start than it gives to tests.
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    `-javaagent:${join(jars, agent)}`,
    ...opened.map((name) => `--add-opens=${name}=ALL-UNNAMED`),
    ...EXPORTED.map((name) => `--add-exports=${name}=ALL-UNNAMED`),
    "-Djdk.attach.allowAttachSelf=true",
    "-Dio.netty.tryReflectionSetAccessible=true",
    `-Dcassandra.config=file://${folder}/conf/cassandra.yaml`,
    `-Dcassandra.storagedir=${folder}`,
    `-Dlogback.configurationFile=${folder}/conf/logback.xml`,
    `-Dcassandra.logdir=${folder}/logs`,
    `-Dcassandra.triggers_dir=${folder}/triggers`,
    `-Djava.io.tmpdir=${folder}`,
    "-Dcassandra.skip_wait_for_gossip_to_settle=0",
    "-Dcassandra.ring_delay_ms=1000",
    `-Dcassandra.skip_default_role_setup=${logins !== true}`,
    "-Dcassandra.superuser_setup_delay_ms=0",
    "-Dcassandra.consistent.rangemovement=false",
    "-cp",
    names.map((name) => join(jars, name)).join(":"),
    "org.apache.cassandra.service.CassandraDaemon",
  ]
}
