/** Searches between the proto and the domain. */
import type { MessageInitShape, MessageShape } from "@bufbuild/protobuf"
import { durationMs } from "@bufbuild/protobuf/wkt"
import { invalidField } from "../domain/kernel/errors.ts"
import { parseFilter } from "../domain/kernel/filter/index.ts"
import { RECORD_FIELDS } from "../domain/memory/ports.ts"
import type { Ranked } from "../domain/memory/rank.ts"
import type { SearchMode as DomainMode, SearchQuery } from "../domain/memory/search-records.ts"
import {
  SearchMode,
  type SearchQuerySchema,
  type SearchResultSchema,
} from "../gen/keelplane/v1/memory_service_pb.ts"
import { partsOf, recordMessage, unknownName, vectorOf, wholeMs } from "./memory-messages.ts"

type QueryMessage = MessageShape<typeof SearchQuerySchema>

const DEFAULT_K = 10
const DEFAULT_RRF_K = 60
const DEFAULT_LAMBDA = 0.5

const MODE_OF: Readonly<Record<number, DomainMode>> = {
  [SearchMode.UNSPECIFIED]: "AUTO",
  [SearchMode.DENSE]: "DENSE",
  [SearchMode.KEYWORD]: "KEYWORD",
  [SearchMode.HYBRID]: "HYBRID",
}

/** One search of a request, at `path` in it. Throws INVALID_FIELD and INVALID_FILTER. */
export function searchQuery(message: QueryMessage, path: string): SearchQuery {
  const { recency, diversity } = message
  return {
    target: targetOf(message.target, path),
    keywords: message.keywords,
    k: message.k === 0 ? DEFAULT_K : message.k,
    offset: message.offset,
    minScore: message.minScore,
    filter: parseFilter(message.filter, RECORD_FIELDS),
    mode: MODE_OF[message.mode] ?? unknownName(`${path}.mode`),
    fusion: fusionOf(message.fusion),
    recencyHalfLifeMs: recency?.halfLife === undefined ? undefined : wholeMs(durationMs(recency.halfLife)),
    diversity: diversity === undefined ? undefined : (diversity.lambda ?? DEFAULT_LAMBDA),
    candidates: message.candidates,
    efSearch: message.efSearch,
    exact: message.exact,
    parts: partsOf(message.view),
  }
}

function targetOf(target: QueryMessage["target"], path: string): SearchQuery["target"] {
  switch (target.case) {
    case "vector":
      return { kind: "vector", vector: vectorOf(target.value, `${path}.vector`) }
    case "text":
      return { kind: "text", text: target.value }
    case "recordId":
      return { kind: "record", id: target.value }
    default:
      throw invalidField(path, "one of vector, text and record_id is required")
  }
}

function fusionOf(fusion: QueryMessage["fusion"]): SearchQuery["fusion"] {
  if (fusion.case === "weighted") {
    return { kind: "weighted", dense: fusion.value.denseWeight, keyword: fusion.value.keywordWeight }
  }
  const k = fusion.case === "rrf" ? fusion.value.k : 0
  return { kind: "rrf", k: k === 0 ? DEFAULT_RRF_K : k }
}

/** The proto's answer to one search. `degradedBy`: the store that is away, where a fallback answered. */
export function resultMessage(
  hits: readonly Ranked[],
  degradedBy: string | undefined,
): MessageInitShape<typeof SearchResultSchema> {
  return {
    hits: hits.map((hit) => ({
      record: recordMessage(hit.record),
      score: hit.score,
      denseScore: hit.denseScore,
      keywordScore: hit.keywordScore,
    })),
    degraded: degradedBy !== undefined,
    degradedBy: degradedBy ?? "",
  }
}
