/**
 * Redis and Valkey servers for tests: KEELPLANE_TEST_REDIS_URL, else ones that are started here, Valkey 9 and Redis 7. Where none can be
 * had the tests are skipped with the reason; in CI that is a failure.
 */
import { randomUUID } from "node:crypto"
import { after } from "node:test"
import type { TenantId } from "../../src/domain/kernel/scope.ts"
import { openRedis, type RedisEngine, type RedisOptions } from "../../src/stores/redis/index.ts"
import { redisTool, serverTool, valkeyTool } from "../support/redis-install.ts"
import { launchRedis, type RedisServer } from "../support/redis-server.ts"
import { pathOf, skipReason, type Tool } from "../support/tools.ts"

export { freePort, type RedisServer } from "../support/redis-server.ts"

/** What is ended after the test file's tests, last first. Hooks made inside hooks would end with them. */
const endings: (() => Promise<void>)[] = []
after(async () => {
  for (const end of endings.reverse()) await end()
})

const given = process.env.KEELPLANE_TEST_REDIS_URL
const tool: Tool = given === undefined ? await serverTool() : { path: "" }

/** Does something after the test file's tests. */
export function atEnd(work: () => Promise<void> | void): void {
  endings.push(async () => work())
}

/** False, or why tests that need any server are skipped. */
export const redisSkip: string | false = skipReason(tool)

const NOT_OURS = "the server is not ours to stop (KEELPLANE_TEST_REDIS_URL)"

/** False, or why tests that stop and starve a server of their own are skipped. */
export const ownServerSkip: string | false = given === undefined ? redisSkip : NOT_OURS

/** The server's program, where {@link ownServerSkip} is false. */
export function serverPath(): string {
  return pathOf(tool)
}

/** Starts a server of the test's own; stopped after the test file's tests. */
export async function startRedis(
  args: readonly string[] = [],
  port?: number,
  password?: string,
  program: string = pathOf(tool),
): Promise<RedisServer> {
  const server = await launchRedis(program, args, port, password)
  endings.push(server.stop)
  return server
}

/** A kind of server that suites run on. */
export interface RedisKind {
  readonly name: string
  /** False, or why there is none. */
  readonly skip: string | false
  /** False, or why there is none that tests may start and stop. */
  readonly ownSkip: string | false
  /** The program, where `ownSkip` is false. */
  program(): string
  /** The server that the suites of a test file share. */
  url(): Promise<string>
}

function started(name: string, program: Tool): RedisKind {
  let shared: Promise<string> | undefined
  const skip = skipReason(program)
  return {
    name,
    skip,
    ownSkip: skip,
    program: () => pathOf(program),
    url: () => {
      shared ??= startRedis([], undefined, undefined, pathOf(program)).then(({ url }) => url)
      return shared
    },
  }
}

/** The kinds of servers that the suites run on; the first is what all other tests have. */
export const redisKinds: readonly RedisKind[] =
  given === undefined
    ? [started("Valkey 9", await valkeyTool()), started("Redis 7", await redisTool())]
    : [{ name: "Redis", skip: false, ownSkip: NOT_OURS, program: () => "", url: async () => given }]

let shared: Promise<string> | undefined

/** The server that the tests of a file share which run on one kind only. */
export function redisUrl(): Promise<string> {
  const [first] = redisKinds
  shared ??= first !== undefined && first.skip === false ? first.url() : startRedis().then(({ url }) => url)
  return shared
}

/** Stands before every script: a key that the caller has not declared is an error. Commands here take their key first. */
const CHECK_KEYS = `
local raw_redis, declared = redis, {}
for _, key in ipairs(KEYS) do declared[key] = true end
local keyless = { TIME = true, PUBLISH = true }
local function check(name, key)
  if not keyless[name] and not declared[key] then error("undeclared key in " .. name .. ": " .. tostring(key), 0) end
end
local redis = {
  call = function(name, key, ...) check(name, key) if key == nil then return raw_redis.call(name) end return raw_redis.call(name, key, ...) end,
  pcall = function(name, key, ...) check(name, key) return raw_redis.pcall(name, key, ...) end,
}
`

/** Refuses undeclared keys in a script. */
export const checkingKeys = (script: string): string => CHECK_KEYS + script

/** An engine on the shared server under a prefix of its own, whose scripts must declare every key; closed after the tests. */
export async function testRedis(options: Partial<RedisOptions> = {}): Promise<RedisEngine> {
  const prefix = `test-${randomUUID()}`
  const url = options.url ?? (await redisUrl())
  const engine = await openRedis({ prefix, wrapScript: checkingKeys, ...options, url })
  endings.push(() => engine.close())
  return engine
}

let tenants = 0

/** A tenant that nobody has used. */
export function freshTenant(): TenantId {
  return `tenant-${++tenants}` as TenantId
}
