/** Version 5 UUIDs (RFC 9562): the same for the same name. */
import { createHash } from "node:crypto"

/** The id of `name` in the space that another UUID is, in lower case. */
export function uuid5(name: string, space: string): string {
  const id = createHash("sha1")
    .update(Buffer.from(space.replaceAll("-", ""), "hex"))
    .update(name)
    .digest()
  id.writeUInt8(0x50 | (id.readUInt8(6) & 0x0f), 6)
  id.writeUInt8(0x80 | (id.readUInt8(8) & 0x3f), 8)
  const hex = id.toString("hex", 0, 16)
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
}
