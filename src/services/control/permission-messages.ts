/** Subjects, assignments and decisions between the proto and the domain. */
import type { MessageInitShape, MessageShape } from "@bufbuild/protobuf"
import { timestampFromMs } from "@bufbuild/protobuf/wkt"
import type { RoleAssignment, Subject } from "../../domain/control/model.ts"
import type { Decision } from "../../domain/control/permissions.ts"
import { invalidField } from "../../domain/kernel/errors.ts"
import {
  PermissionDecision,
  type PermissionResultSchema,
  type PermissionSubjectSchema,
  type RoleAssignmentSchema,
} from "../../gen/keelplane/v1/control_service_pb.ts"

const KINDS = { userId: "user", agentId: "agent", apiKeyId: "key" } as const
const CASES = { user: "userId", agent: "agentId", key: "apiKeyId" } as const

const REFUSALS = {
  "no-grant": PermissionDecision.NO_GRANT,
  "unknown-subject": PermissionDecision.UNKNOWN_SUBJECT,
  "subject-disabled": PermissionDecision.SUBJECT_DISABLED,
} as const

/** The subject. Throws INVALID_FIELD at `field` when none is named. */
export function subjectOf(
  field: string,
  message: MessageShape<typeof PermissionSubjectSchema> | undefined,
): Subject {
  const subject = message?.subject
  if (subject?.case === undefined) throw invalidField(field, "must name a user, an agent or an API key")
  return { kind: KINDS[subject.case], id: subject.value }
}

/** A subject as callers see it. */
export function subjectMessage({ kind, id }: Subject): MessageInitShape<typeof PermissionSubjectSchema> {
  return { subject: { case: CASES[kind], value: id } }
}

/** An assignment as callers see it. */
export function assignmentMessage(assignment: RoleAssignment): MessageInitShape<typeof RoleAssignmentSchema> {
  const { roleId, resource, creator } = assignment
  return {
    roleId,
    subject: subjectMessage(assignment.subject),
    resource,
    creator,
    createTime: timestampFromMs(assignment.createTime),
  }
}

/** A decision as callers see it. */
export function resultMessage(decision: Decision): MessageInitShape<typeof PermissionResultSchema> {
  if (!decision.allowed) return { allowed: false, decision: REFUSALS[decision.why] }
  const { roleId, permission } = decision.grant
  return { allowed: true, decision: PermissionDecision.GRANTED, roleId, permission }
}
