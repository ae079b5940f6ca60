/** Which fields an Update RPC is to change (AIP-134, AIP-161). */
import { type DescMessage, isFieldSet, type MessageShape } from "@bufbuild/protobuf"
import type { FieldMask } from "@bufbuild/protobuf/wkt"
import { invalidField } from "../domain/kernel/errors.ts"

/**
 * The names of the fields to change. `*` stands for all of `allowed`; an absent or empty mask for those of them that are set in
 * `message`. Throws INVALID_FIELD for a path that is not in `allowed`, and when there is nothing to change.
 * @param allowed field names as the proto spells them.
 */
export function maskedFields<D extends DescMessage>(
  descriptor: D,
  message: MessageShape<D>,
  mask: FieldMask | undefined,
  allowed: readonly string[],
): ReadonlySet<string> {
  const paths = mask?.paths ?? []
  if (paths.includes("*")) return new Set(allowed)
  for (const [at, path] of paths.entries()) {
    if (!allowed.includes(path)) {
      throw invalidField(`update_mask.paths[${at}]`, `must be * or one of ${allowed.join(", ")}`)
    }
  }
  if (paths.length > 0) return new Set(paths)
  const set = descriptor.fields.filter((field) => allowed.includes(field.name) && isFieldSet(message, field))
  if (set.length === 0) throw invalidField("update_mask", "names nothing to change, and no field is set")
  return new Set(set.map((field) => field.name))
}

/** The part of `fields` whose names are in `masked`. `names` says how the proto spells each. */
export function patchOf<F extends object>(
  fields: F,
  names: Readonly<Record<keyof F, string>>,
  masked: ReadonlySet<string>,
): Partial<F> {
  const keys = Object.keys(names) as (keyof F)[]
  const kept = keys.filter((key) => masked.has(names[key])).map((key) => [key, fields[key]])
  return Object.fromEntries(kept) as Partial<F>
}
