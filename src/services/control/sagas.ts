/** The RPCs about flows over several stores. */
import { timestampFromMs } from "@bufbuild/protobuf/wkt"
import { certificateOf } from "../../domain/control/certificate.ts"
import type { ErasureCertificate, ErasureSubject } from "../../domain/control/erasure.ts"
import { requirePlatform } from "../../domain/control/issue-api-key.ts"
import { invalidField } from "../../domain/kernel/errors.ts"
import { isOver, type Saga, type SagaState } from "../../domain/saga/model.ts"
import { type EraseSubjectRequest, SagaState as State } from "../../gen/keelplane/v1/control_service_pb.ts"
import { type ControlHandlers, type ControlServiceDeps, PAGE } from "./deps.ts"

type SagaHandlers = Pick<ControlHandlers, "eraseSubject" | "getSaga" | "listSagas" | "retrySaga">

const STATES: Readonly<Record<SagaState, State>> = {
  running: State.RUNNING,
  done: State.DONE,
  compensating: State.COMPENSATING,
  compensated: State.COMPENSATED,
  stuck: State.STUCK,
}

/** Handlers over the flows. */
export function sagaHandlers({ flows, pages }: ControlServiceDeps): SagaHandlers {
  return {
    eraseSubject: async (req, ctx) => {
      const { certificate, ...outcome } = await flows.eraseSubject(ctx, subjectOf(req))
      return { ...outcome, certificate: certificateMessage(certificate) }
    },
    getSaga: async (req, ctx) => {
      requirePlatform(ctx.principal, req.platform)
      return { saga: sagaMessage(await flows.get(ctx, req.sagaId, req.platform)) }
    },
    listSagas: async (req, ctx) => {
      requirePlatform(ctx.principal, req.platform)
      const state = (Object.keys(STATES) as SagaState[]).find((name) => STATES[name] === req.state)
      const query = { kind: req.kind === "" ? undefined : req.kind, state }
      const page = await flows.list(ctx, query, pages.request(ctx, req, PAGE), req.platform)
      return { sagas: page.items.map(sagaMessage), nextPageToken: pages.token(ctx, req, page.next) }
    },
    retrySaga: async (req, ctx) => ({ saga: sagaMessage(await flows.retry(ctx, req.sagaId)) }),
  }
}

function subjectOf({ subject }: EraseSubjectRequest): ErasureSubject {
  if (subject.case === undefined) throw invalidField("subject", "is required")
  return { kind: subject.case === "userId" ? "user" : "agent", id: subject.value }
}

/** The certificate as callers see it. */
export function certificateMessage(certificate: ErasureCertificate | undefined) {
  if (certificate === undefined) return undefined
  return {
    sagaId: certificate.id,
    kind: certificate.kind,
    subjectDigest: certificate.subjectDigest,
    requestedBy: certificate.requestedBy,
    beginTime: timestampFromMs(certificate.beginMs),
    endTime: timestampFromMs(certificate.endMs),
    removals: certificate.removals.map(({ store, what, count }) => ({ store, what, count: BigInt(count) })),
    remainingCount: BigInt(certificate.remaining),
    digest: certificate.digest,
  }
}

function sagaMessage(saga: Saga) {
  const waiting = !isOver(saga) && saga.state !== "stuck"
  return {
    sagaId: saga.id,
    kind: saga.kind,
    subject: saga.subject,
    requestedBy: saga.actor,
    state: STATES[saga.state],
    steps: saga.steps.map(({ name, state, attempts }) => ({
      name,
      done: state === "done",
      attemptCount: attempts,
    })),
    ...(saga.fault === undefined
      ? {}
      : { fault: { step: saga.fault.step, reason: saga.fault.reason, message: saga.fault.message } }),
    ...(waiting ? { nextTime: timestampFromMs(saga.nextMs) } : {}),
    createTime: timestampFromMs(saga.createdMs),
    updateTime: timestampFromMs(saga.updatedMs),
    certificate: certificateMessage(certificateOf(saga)),
  }
}
