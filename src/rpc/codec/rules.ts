/**
 * The proto's field rules as compiled checks. They only say yes: what they do not accept, and all that they do not know,
 * protovalidate judges, in whose words a violation is told.
 */
import {
  type DescEnum,
  type DescField,
  type DescMessage,
  type DescOneof,
  getOption,
  hasOption,
  ScalarType,
} from "@bufbuild/protobuf"
import { Edition } from "@bufbuild/protobuf/wkt"
import {
  type FieldRules,
  FieldRulesSchema,
  field as fieldOption,
  Ignore,
  MapRulesSchema,
  message as messageOption,
  oneof as oneofOption,
  RepeatedRulesSchema,
} from "../../gen/buf/validate/validate_pb.ts"
import { checksOf, setRules } from "./rule-checks.ts"
import { isImplicit, nonZero } from "./shape.ts"
import { property, Source } from "./source.ts"

/** Whether a message keeps all rules for certain. */
export type Accepts = (message: object) => boolean

const REFUSE = "return false"
const WELL_KNOWN: Readonly<Record<string, string>> = {
  "google.protobuf.Duration": "duration",
  "google.protobuf.Timestamp": "timestamp",
}
/** What the rules of a field may say besides those of its type. */
const KNOWN: ReadonlySet<string> = new Set(["required", "ignore"])

/** The check of a type; undefined where code cannot be compiled. */
export function compileRules(desc: DescMessage): Accepts | undefined {
  const source = new Source()
  return source.compile(messageFunction(source, desc)) as Accepts | undefined
}

/** Whether the type or any type that it can contain has rules. */
export function hasRules(desc: DescMessage, seen = new Set<string>()): boolean {
  if (seen.has(desc.typeName)) return false
  seen.add(desc.typeName)
  return (
    hasOption(desc, messageOption) ||
    desc.oneofs.some((each) => hasOption(each, oneofOption)) ||
    desc.fields.some(
      (each) => hasOption(each, fieldOption) || (each.message !== undefined && hasRules(each.message, seen)),
    )
  )
}

function messageFunction(source: Source, desc: DescMessage): string {
  return source.function(desc.typeName, () => {
    const known = desc.file.edition === Edition.EDITION_PROTO3 && !hasOption(desc, messageOption)
    const parts = known
      ? [...desc.fields.map((each) => fieldPart(source, each)), ...desc.oneofs.map(oneofPart), "return true"]
      : [REFUSE]
    return ["m", parts.filter((each) => each !== "").join("\n")]
  })
}

function oneofPart(oneof: DescOneof): string {
  if (!hasOption(oneof, oneofOption)) return ""
  return `if (m${property(oneof.localName)}.case === undefined) ${REFUSE}`
}

function fieldPart(source: Source, field: DescField): string {
  const rules = hasOption(field, fieldOption) ? getOption(field, fieldOption) : undefined
  const body = rules !== undefined && !isKnown(rules) ? REFUSE : valueChecks(source, field, rules, "v")
  if (body === "" && rules?.required !== true) return ""
  const absent = rules?.required === true ? ` else ${REFUSE}` : ""
  const present = presence(field, absent !== "" || rules?.ignore === Ignore.IF_ZERO_VALUE)
  const load =
    field.oneof === undefined
      ? `const v = m${property(field.localName)}`
      : `const o = m${property(field.oneof.localName)}, v = o.value`
  return present === undefined ? `{ ${load}\n${body} }` : `{ ${load}\nif (${present}) { ${body} }${absent} }`
}

/** Only what is set is checked; a field without presence always, unless `unlessZero`. */
function presence(field: DescField, unlessZero: boolean): string | undefined {
  if (field.oneof !== undefined) return `o.case === ${JSON.stringify(field.localName)}`
  if (field.fieldKind === "list") return unlessZero ? "v.length > 0" : undefined
  if (field.fieldKind === "map") return unlessZero ? "Object.keys(v).length > 0" : undefined
  if (field.fieldKind === "message" || !isImplicit(field)) return "v !== undefined"
  return unlessZero ? nonZero(field) : undefined
}

/** Whether the rules beside those of the field's type are known. */
function isKnown(rules: FieldRules): boolean {
  const others = setRules(FieldRulesSchema, rules).filter(
    ([name]) => !KNOWN.has(name) && name !== rules.type.case,
  )
  return others.length === 0 && (rules.ignore === Ignore.UNSPECIFIED || rules.ignore === Ignore.IF_ZERO_VALUE)
}

function valueChecks(source: Source, field: DescField, rules: FieldRules | undefined, v: string): string {
  switch (field.fieldKind) {
    case "list":
      return listChecks(source, field, rules, v)
    case "map":
      return mapChecks(source, field, rules, v)
    default:
      return singularChecks(source, field, rules, v)
  }
}

function listChecks(
  source: Source,
  field: DescField & { fieldKind: "list" },
  rules: FieldRules | undefined,
  v: string,
): string {
  const own = rules?.type.case === "repeated" ? rules.type.value : undefined
  if (own === undefined && rules?.type.case !== undefined) return REFUSE
  const sizes = own === undefined ? "" : checksOf(source, RepeatedRulesSchema, own, v, ["items"])
  const item = itemChecks(source, field, own?.items, "item")
  return item === "" ? sizes : `${sizes}\nfor (const item of ${v}) { ${item} }`
}

function mapChecks(
  source: Source,
  field: DescField & { fieldKind: "map" },
  rules: FieldRules | undefined,
  v: string,
): string {
  const own = rules?.type.case === "map" ? rules.type.value : undefined
  if (own === undefined && rules?.type.case !== undefined) return REFUSE
  if (own?.keys !== undefined && field.mapKey !== ScalarType.STRING) return REFUSE
  const sizes = own === undefined ? "" : checksOf(source, MapRulesSchema, own, "keys", ["keys", "values"])
  const key = own?.keys === undefined ? "" : scalarChecks(source, "string", own.keys, "key")
  const item = itemChecks(source, field, own?.values, "item")
  if (key === "" && item === "") return sizes === "" ? "" : `const keys = Object.keys(${v})\n${sizes}`
  const loop = `for (const key of keys) { const item = ${v}[key]\n${key}\n${item} }`
  return `const keys = Object.keys(${v})\n${sizes}\n${loop}`
}

/** The checks of an item of a list or a map, whose rules are rules of a field, too. */
function itemChecks(source: Source, field: DescField, rules: FieldRules | undefined, v: string): string {
  // Which items count as absent is not told apart here.
  if (rules !== undefined && (rules.required || rules.ignore !== Ignore.UNSPECIFIED)) return REFUSE
  return singularChecks(source, field, rules, v)
}

function singularChecks(source: Source, field: DescField, rules: FieldRules | undefined, v: string): string {
  const own = rules === undefined ? "" : scalarChecks(source, caseOf(field), rules, v, field.enum)
  if (field.message === undefined || !hasRules(field.message)) return own
  return `${own}\nif (!${messageFunction(source, field.message)}(${v})) ${REFUSE}`
}

function scalarChecks(
  source: Source,
  expected: string | undefined,
  rules: FieldRules,
  v: string,
  allowed?: DescEnum,
): string {
  const { type } = rules
  if (!isKnown(rules)) return REFUSE
  if (type.case === undefined) return ""
  const desc = FieldRulesSchema.fields.find((each) => each.localName === type.case)?.message
  if (desc === undefined || type.case !== expected) return REFUSE
  return checksOf(source, desc, type.value, v, [], allowed)
}

/** Which rules a value may have, by their name in FieldRules. */
function caseOf(field: DescField): string | undefined {
  if (field.enum !== undefined) return "enum"
  if (field.scalar !== undefined) return ScalarType[field.scalar].toLowerCase()
  return field.message === undefined ? undefined : WELL_KNOWN[field.message.typeName]
}
