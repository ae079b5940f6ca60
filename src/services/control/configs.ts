/** The configuration RPCs. */
import type { MessageInitShape } from "@bufbuild/protobuf"
import { timestampFromMs } from "@bufbuild/protobuf/wkt"
import type { ConfigTarget, ConfigValue, ConfigVersion } from "../../domain/control/model.ts"
import { type ConfigFrame, watchConfig } from "../../domain/control/watch-config.ts"
import { invalidField, limitExceeded } from "../../domain/kernel/errors.ts"
import type {
  ConfigVersionSchema,
  GetConfigRequest,
  PutConfigRequest,
  WatchConfigRequest,
  WatchConfigResponseSchema,
} from "../../gen/keelplane/v1/control_service_pb.ts"
import { timeOf } from "../times.ts"
import { type ControlHandlers, type ControlServiceDeps, PAGE } from "./deps.ts"
import { requireSmallJson } from "./resource-messages.ts"

const VALUE_MAX_BYTES = 1_048_576
/** Versions and sequences are signed in the store. */
const MAX_NUMBER = 2n ** 63n - 1n

type ConfigHandlers = Pick<
  ControlHandlers,
  | "putConfig"
  | "getConfig"
  | "listConfigVersions"
  | "rollbackConfig"
  | "deleteConfig"
  | "listConfigs"
  | "watchConfig"
>

/** Handlers over the configuration store. */
export function configHandlers(deps: ControlServiceDeps): ConfigHandlers {
  const { configs, pages, signals } = deps
  const written = async (tenant: string, write: Promise<ConfigVersion>) => {
    const config = await write
    signals.configChanged(tenant)
    return { config: configMessage(config) }
  }
  return {
    putConfig: (req, ctx) => {
      const { ifVersion, description } = req
      return written(ctx.tenant, configs.put(ctx, req.key, putValue(req), { ifVersion, description }))
    },
    getConfig: async (req, ctx) => ({ config: configMessage(await configs.get(ctx, req.key, atOf(req.at))) }),
    listConfigVersions: async (req, ctx) => {
      const page = await configs.listVersions(ctx, req.key, !req.omitValues, pages.request(ctx, req, PAGE))
      return { versions: page.items.map(configMessage), nextPageToken: pages.token(ctx, req, page.next) }
    },
    rollbackConfig: (req, ctx) => {
      const { ifVersion, description } = req
      const version = clamped(req.version)
      return written(ctx.tenant, configs.rollback(ctx, req.key, version, { ifVersion, description }))
    },
    deleteConfig: (req, ctx) => {
      const { ifVersion, description } = req
      return written(ctx.tenant, configs.delete(ctx, req.key, { ifVersion, description }))
    },
    listConfigs: async (req, ctx) => {
      const page = await configs.list(ctx, req.prefix, !req.omitValues, pages.request(ctx, req, PAGE))
      return { configs: page.items.map(configMessage), nextPageToken: pages.token(ctx, req, page.next) }
    },
    async *watchConfig(req, ctx) {
      const after = req.afterSequence === undefined ? undefined : clamped(req.afterSequence)
      for await (const frame of watchConfig(deps, ctx, targetOf(req.target), after)) yield frameMessage(frame)
    },
  }
}

/** What is beyond every number that the store can have given out is answered like the largest of them. */
function clamped(number: bigint): bigint {
  return number > MAX_NUMBER ? MAX_NUMBER : number
}

function putValue({ value, contentType }: PutConfigRequest): ConfigValue {
  switch (value.case) {
    case "structValue":
      if (contentType !== "") throw invalidField("content_type", "goes with bytes_value only")
      requireSmallJson("struct_value", value.value, VALUE_MAX_BYTES)
      return { kind: "struct", struct: value.value }
    case "bytesValue":
      if (value.value.byteLength > VALUE_MAX_BYTES) {
        throw limitExceeded("bytes_value", value.value.byteLength, VALUE_MAX_BYTES)
      }
      return { kind: "bytes", bytes: value.value, contentType }
    default:
      throw invalidField("value", "is required")
  }
}

function atOf(at: GetConfigRequest["at"]): { version: bigint } | { time: number } | undefined {
  if (at.case === "version") return { version: clamped(at.value) }
  if (at.case === "time") return { time: timeOf("time", at.value) }
  return undefined
}

function targetOf(target: WatchConfigRequest["target"]): ConfigTarget {
  if (target.case === "key") return { key: target.value }
  if (target.case === "prefix") return { prefix: target.value }
  throw invalidField("target", "is required")
}

function configMessage(config: ConfigVersion): MessageInitShape<typeof ConfigVersionSchema> {
  const { key, version, deleted, description, author, rollbackOf, sequence } = config
  return {
    key,
    version,
    ...valueMessage(config.value),
    contentType: config.value?.kind === "bytes" ? config.value.contentType : "",
    deleted,
    description,
    author,
    createTime: timestampFromMs(config.createTime),
    rollbackOfVersion: rollbackOf,
    sequence,
  }
}

function valueMessage(
  value: ConfigValue | undefined,
): Pick<MessageInitShape<typeof ConfigVersionSchema>, "value"> {
  if (value === undefined) return {}
  if (value.kind === "struct") return { value: { case: "structValue", value: value.struct } }
  // A plain view: what came out of the idempotency record is no message field otherwise.
  return { value: { case: "bytesValue", value: new Uint8Array(value.bytes) } }
}

function frameMessage(frame: ConfigFrame): MessageInitShape<typeof WatchConfigResponseSchema> {
  const { sequence } = frame
  if (frame.kind === "config")
    return { frame: { case: "config", value: configMessage(frame.config) }, sequence }
  return { frame: { case: frame.kind, value: {} }, sequence }
}
