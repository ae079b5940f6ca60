/** The encodings of request messages. Answers are never compressed: who calls is beside the daemon. */
import { gunzip, inflate, type ZlibOptions } from "node:zlib"
import { DomainError } from "../../domain/kernel/errors.ts"
import { tooLarge } from "./grpc-frames.ts"

/** What callers may send, for the header `grpc-accept-encoding`. */
export const ACCEPTED_ENCODINGS = "identity,deflate,gzip"

type Unpack = (
  bytes: Uint8Array,
  options: ZlibOptions,
  done: (error: Error | null, plain: Buffer) => void,
) => void

const UNPACK: ReadonlyMap<string, Unpack> = new Map([
  ["gzip", gunzip],
  ["deflate", inflate],
])

/** Unpacks one message; rejects with a DomainError. */
export type Unpacker = (bytes: Buffer, maxBytes: number) => Promise<Buffer>

/**
 * What unpacks the compressed messages of a call; undefined for one that announced no compression. Throws UNIMPLEMENTED for
 * an encoding that is not known.
 */
export function unpackerOf(encoding: string | undefined): Unpacker | undefined {
  if (encoding === undefined || encoding === "identity") return undefined
  const unpack = UNPACK.get(encoding)
  if (unpack === undefined) {
    throw new DomainError(
      "UNIMPLEMENTED",
      `messages are taken in ${ACCEPTED_ENCODINGS.replaceAll(",", ", ")}; other encodings are not known`,
      { metadata: { field: "grpc-encoding" } },
    )
  }
  return (bytes, maxBytes) => unpacked(unpack, bytes, maxBytes)
}

/** A thread of its own unpacks, and stops at the limit. */
function unpacked(unpack: Unpack, bytes: Buffer, maxBytes: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    unpack(bytes, { maxOutputLength: maxBytes }, (error, plain) => {
      if (error === null) resolve(plain)
      else if ((error as NodeJS.ErrnoException).code === "ERR_BUFFER_TOO_LARGE") {
        reject(tooLarge(maxBytes, maxBytes, true))
      } else reject(malformed("the compressed message cannot be unpacked", error))
    })
  })
}

/** MALFORMED_MESSAGE for a message that says it is compressed in a call that announced no encoding. */
export function unannounced(): DomainError {
  return malformed("the message is compressed, and the call names no grpc-encoding")
}

/** MALFORMED_MESSAGE for what is not what gRPC asks for. */
export function malformed(message: string, cause?: unknown): DomainError {
  return new DomainError("MALFORMED_MESSAGE", message, { cause })
}
