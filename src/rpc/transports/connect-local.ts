/** While authentication is off, a browser is the way by which strangers could reach a loopback port; it tells where a page is from. */
import type { IncomingMessage } from "node:http"
import { DomainError } from "../../domain/kernel/errors.ts"
import { isFromSocketFile } from "../port.ts"

/** Why the request of a foreign page is refused; undefined for what a local program or page sends. */
export function foreignRequest(request: IncomingMessage): DomainError | undefined {
  // No browser can reach a socket file.
  if (isFromSocketFile(request.socket)) return undefined
  const { host = "", origin, "sec-fetch-site": site } = request.headers
  // DNS rebinding: the page's own host name has come to mean this machine.
  if (!isLoopback(host.replace(/:\d+$/, ""))) {
    return refusal("only requests to a loopback host name are served")
  }
  if (origin !== undefined) {
    return isLoopback(hostOf(origin)) ? undefined : refusal("pages from other hosts are not served")
  }
  // A page that sends no Origin is known by this alone; one that does may be local under another loopback name.
  return site === "cross-site" ? refusal("pages from other hosts are not served") : undefined
}

function hostOf(origin: string): string {
  return URL.parse(origin)?.hostname ?? ""
}

function isLoopback(host: string): boolean {
  return /^(localhost|\[::1\]|127(\.\d{1,3}){3})$/i.test(host)
}

function refusal(rule: string): DomainError {
  return new DomainError("PERMISSION_DENIED", `without authentication ${rule}`, {
    metadata: { permission: "local" },
  })
}
