/** The agent RPCs. */
import { parseFilter } from "../../domain/kernel/filter/index.ts"
import { AgentSchema } from "../../gen/keelplane/v1/control_service_pb.ts"
import { maskedFields, patchOf } from "../field-mask.ts"
import { collectionDraft } from "../memory-messages.ts"
import { type ControlHandlers, type ControlServiceDeps, PAGE } from "./deps.ts"
import {
  AGENT_FILTER,
  AGENT_NAMES,
  agentFields,
  agentMessage,
  idOf,
  requiredId,
} from "./resource-messages.ts"

type AgentHandlers = Pick<
  ControlHandlers,
  "createAgent" | "getAgent" | "listAgents" | "updateAgent" | "deleteAgent"
>

/** Handlers over the agent store. Disabling or deleting agents changes whether keys are good. */
export function agentHandlers({ agents, flows, pages, signals }: ControlServiceDeps): AgentHandlers {
  return {
    createAgent: async ({ agent, provision }, ctx) => {
      if (agent === undefined) return {}
      if (provision !== undefined) {
        const wanted = {
          collection: provision.collection === undefined ? undefined : collectionDraft(provision.collection),
          stream: provision.stream,
          roleIds: provision.roleIds,
        }
        const outcome = await flows.createAgent(ctx, idOf(agent.agentId), agentFields(agent), wanted)
        return { ...outcome, agent: outcome.agent === undefined ? undefined : agentMessage(outcome.agent) }
      }
      return { agent: agentMessage(await agents.create(ctx, idOf(agent.agentId), agentFields(agent))) }
    },
    getAgent: async (req, ctx) => ({ agent: agentMessage(await agents.get(ctx, req.agentId)) }),
    listAgents: async (req, ctx) => {
      const filter = parseFilter(req.filter, AGENT_FILTER)
      const page = await agents.list(ctx, filter, pages.request(ctx, req, PAGE))
      return { agents: page.items.map(agentMessage), nextPageToken: pages.token(ctx, req, page.next) }
    },
    updateAgent: async ({ agent, updateMask, ifRevisionMatch }, ctx) => {
      if (agent === undefined) return {}
      const id = requiredId("agent.agent_id", agent.agentId)
      const masked = maskedFields(AgentSchema, agent, updateMask, Object.values(AGENT_NAMES))
      const patch = patchOf(agentFields(agent), AGENT_NAMES, masked)
      const updated = await agents.update(ctx, id, patch, ifRevisionMatch)
      if (masked.has("disabled")) signals.identityChanged()
      return { agent: agentMessage(updated) }
    },
    deleteAgent: async (req, ctx) => {
      await agents.delete(ctx, req.agentId, req.ifRevisionMatch)
      signals.identityChanged()
      return {}
    },
  }
}
