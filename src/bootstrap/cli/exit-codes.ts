/** What the process says when it ends. Part of the interface: scripts and supervisors rely on it. */
export const EXIT = {
  /** Done; for `serve`: drained after SIGTERM, SIGINT or AdminService.Drain. */
  ok: 0,
  /** Something failed; the last line on stderr says what. */
  failure: 1,
  /** The command line is wrong. */
  usage: 2,
  /** The configuration is refused (sysexits' EX_CONFIG). */
  config: 78,
  /** The data directory, a port or a socket belongs to another process (EX_TEMPFAIL). */
  occupied: 75,
  /** A second signal cut the drain short. */
  forced: 130,
} as const
