/** Child processes of tests. */
import type { ChildProcess } from "node:child_process"
import { once } from "node:events"

const children = new Set<ChildProcess>()
process.once("exit", () => {
  for (const child of children) child.kill("SIGKILL")
})

/** Sees to it that a child does not outlive this process. */
export function endWithProcess(child: ChildProcess): void {
  children.add(child)
  child.once("exit", () => children.delete(child))
}

/** Whether a child is over. */
export function isOver({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode !== null || signalCode !== null
}

/** Resolves when a child is over. */
export async function exited(child: ChildProcess): Promise<void> {
  child.ref()
  if (!isOver(child)) await once(child, "exit")
}

/** Kills a child, which need not live any more, and resolves when it is over. */
export async function killed(child: ChildProcess): Promise<void> {
  const end = exited(child)
  child.kill("SIGKILL")
  await end
}
