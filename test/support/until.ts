/** Waiting for conditions in tests. */

/** Resolves when `check` answers true; rejects after `patienceMs`, which is generous. */
export async function until(
  what: string,
  check: () => boolean | Promise<boolean>,
  patienceMs = 30_000,
): Promise<void> {
  const end = Date.now() + patienceMs
  while (!(await check())) {
    if (Date.now() > end) throw new Error(`waited ${patienceMs} ms in vain: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}
