import { PROFILE_NAMES } from "../../config/profiles.ts"
import { SETTING_FLAGS } from "./args.ts"
import { EXIT } from "./exit-codes.ts"

/** The text of --help. */
export function helpText(): string {
  const flags = Object.entries(SETTING_FLAGS).map(
    ([name, { help }]) => `  --${`${name} VALUE`.padEnd(20)} ${help}`,
  )
  return `keelplane: the data plane for AI agents

Usage: keelplane COMMAND [OPTIONS]

Commands:
  serve                  run the daemon
  migrate [--dry-run]    bring the stores' schema up to date, or only list what would be done
  export --tenant TENANT [--out FILE]
                         write everything of a tenant but its cache into an archive (.gz packs it)
  import [--in FILE]     write an archive into stores that have nothing of its tenant
  config check           say whether the configuration is accepted, and if not, everything that is wrong with it
  config show            print the configuration in force and where each value comes from; secrets appear as ***
  version                print the version

Options:
  -c, --config PATH      configuration file (otherwise KEELPLANE_CONFIG, otherwise ./keelplane.yaml if there is one)
  --profile NAME           engines of the stores: ${PROFILE_NAMES.join(", ")} (otherwise KEELPLANE_PROFILE)
${flags.join("\n")}
  --set KEY=VALUE        any other setting, e.g. --set limits.in_flight=1000; may be repeated
  -h, --help             this text
  -v, --version          print the version

Settings come from defaults, the configuration file, KEELPLANE_* environment variables (nested keys joined by two
underscores: KEELPLANE_LIMITS__IN_FLIGHT) and options; later ones win. docs/configuration.md describes each.

Exit codes: ${EXIT.ok} done or drained, ${EXIT.failure} failure, ${EXIT.usage} wrong command line, 69 runtime too old,
${EXIT.occupied} the data directory, a port or a socket is in use, ${EXIT.config} configuration refused, ${EXIT.forced} stopped by a second signal.
`
}
