/** `host:port` as configuration spells it. */
export interface HostPort {
  readonly host: string
  readonly port: number
}

/** Reads `host:port` or `[v6]:port`; undefined when it is neither. Port 0 takes a free one. */
export function parseAddress(text: string): HostPort | undefined {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9.-]+)):(\d{1,5})$/.exec(text)
  const host = match?.[1] ?? match?.[2]
  const port = Number(match?.[3])
  return host === undefined || port > 65_535 ? undefined : { host, port }
}

/** True for addresses that only this machine can reach. A name other than localhost counts as reachable from outside. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(host)
}
