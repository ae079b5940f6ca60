/** Ports that nobody listens on right now. */
import { createServer, type Server } from "node:net"

/** `count` different ports of an address. They are free when this answers, and soon enough after it. */
export async function freePorts(host: string, count: number): Promise<readonly number[]> {
  const servers = await Promise.all(Array.from({ length: count }, () => listening(host)))
  const ports = servers.map((server) => {
    const address = server.address()
    return typeof address === "object" && address !== null ? address.port : 0
  })
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
  return ports
}

/** One port of loopback. */
export async function freePort(): Promise<number> {
  const [port = 0] = await freePorts("127.0.0.1", 1)
  return port
}

function listening(host: string): Promise<Server> {
  const server = createServer()
  return new Promise((resolve, reject) => {
    server.once("error", reject)
    server.listen(0, host, () => resolve(server))
  })
}
