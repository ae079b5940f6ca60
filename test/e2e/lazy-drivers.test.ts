/** A daemon loads the drivers of the engines that it uses, and no others: they cost tens of megabytes. */
import assert from "node:assert/strict"
import { test } from "node:test"
import { AdminService } from "../../src/gen/keelplane/v1/admin_service_pb.ts"
import { startDaemon } from "../support/daemon.ts"

const DRIVERS = ["cassandra-driver", "@zilliz/milvus2-sdk-node", "ioredis", "@grpc/grpc-js"]

/** Prints which files of the drivers are loaded when the daemon ends. */
const SPY = `import Module from "node:module";
process.on("exit", () => {
  const loaded = Object.keys(Module._cache);
  const found = ${JSON.stringify(DRIVERS)}.filter((name) => loaded.some((file) => file.includes("/node_modules/" + name + "/")));
  process.stdout.write("LOADED " + JSON.stringify(found) + " of " + loaded.length + "\\n");
});`

async function loadedBy(env: Record<string, string>): Promise<readonly string[]> {
  const spy = `data:text/javascript;base64,${Buffer.from(SPY).toString("base64")}`
  const daemon = await startDaemon({ env: { ...env, NODE_OPTIONS: `--import=${spy}` } })
  const channel = daemon.channel()
  assert.ok((await channel.stub(AdminService).getStatus({})).version)
  channel.close()
  await daemon.end("SIGTERM")
  const line = /LOADED (\[.*\]) of (\d+)/.exec(daemon.output())
  await daemon.stop()
  assert.ok(line?.[1] !== undefined && Number(line[2]) > 10, daemon.output())
  return JSON.parse(line[1]) as string[]
}

test("the embedded default loads no driver of a server but PostgreSQL's", async () => {
  assert.deepEqual(await loadedBy({}), [])
})

test("a configured engine's driver is loaded, and no other", async () => {
  // Nobody has to answer there.
  assert.deepEqual(await loadedBy({ KEELPLANE_STORES__CACHE__URL: "redis://127.0.0.1:1" }), ["ioredis"])
})

test("the library behind the other transport is loaded where it is asked for, and serves", async () => {
  assert.deepEqual(await loadedBy({ KEELPLANE_LISTEN__TRANSPORT: "grpc-js" }), ["@grpc/grpc-js"])
})
