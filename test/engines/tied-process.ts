/** Servers that end with the test process that started them, however it ends. */
import { type ChildProcess, spawn } from "node:child_process"
import { Socket } from "node:net"
import { account } from "./postgres-install.ts"

export { freePort } from "../support/free-ports.ts"

/**
 * Starts a server in `folder`, which holds all its files, with its output in `server.log` there. Runs as the account of PostgreSQL
 * where we are root. What it answers is the process that waits for the server.
 */
export function spawnTied(folder: string, command: string, args: readonly string[]): ChildProcess {
  // The shell outlives a test process that is killed: its input ends then, and with it server and files. A background process starts
  // with QUIT ignored: PostgreSQL, for which it is the fastest end, minds it all the same, PgBouncer does not.
  const script = `exec 3<&0
    "$@" >>server.log 2>&1 </dev/null 3<&- & server=$!; echo $server >server.pid
    { read -r _; touch orphaned; kill -QUIT $server; kill -TERM $server; } <&3 & watch=$!
    wait $server; kill $watch; if [ -e orphaned ]; then rm -rf "$PWD"; fi`
  const child = spawn("sh", ["-c", script, "sh", command, ...args], {
    ...account,
    cwd: folder,
    detached: true,
    stdio: ["pipe", "ignore", "ignore"],
    env: { ...process.env, LC_ALL: "C.UTF-8" },
  })
  // A test that forgets its server does not have to wait for it.
  child.unref()
  if (child.stdin instanceof Socket) child.stdin.unref()
  return child
}
