import { ConfigError, loadConfig } from "../../config/load.ts"
import { parseTenantId } from "../../domain/kernel/scope.ts"
import { version } from "../version.ts"
import { type Arguments, parseArguments, UsageError } from "./args.ts"
import { EXIT } from "./exit-codes.ts"
import { helpText } from "./help.ts"

/** Runs one command line; resolves when it is done, with the exit code already set. */
export async function run(argv: readonly string[]): Promise<void> {
  try {
    process.exitCode = await dispatch(parseArguments(argv))
  } catch (error) {
    process.exitCode = report(error)
  }
}

async function dispatch(args: Arguments): Promise<number> {
  switch (args.command) {
    case "help":
      process.stdout.write(helpText())
      return EXIT.ok
    case "version":
      process.stdout.write(`${version()}\n`)
      return EXIT.ok
    case "config check":
      load(args)
      process.stdout.write("the configuration is accepted\n")
      return EXIT.ok
    case "config show": {
      const { showConfig } = await import("../../config/show.ts")
      process.stdout.write(showConfig(load(args)))
      return EXIT.ok
    }
    case "migrate": {
      const { migrate } = await import("./migrate.ts")
      return migrate(load(args).config, args.dryRun)
    }
    case "export": {
      const tenant = parseTenantId(args.tenant ?? "")
      if (tenant === undefined) throw new UsageError(`"${args.tenant}" is no tenant id`)
      const { exportArchive } = await import("./export.ts")
      return exportArchive(load(args).config, tenant, args.file)
    }
    case "import": {
      const { importArchive } = await import("./import.ts")
      return importArchive(load(args).config, args.file)
    }
    case "serve": {
      const { serve } = await import("./serve.ts")
      return serve(load(args))
    }
  }
}

function load(args: Arguments) {
  return loadConfig({ file: args.configFile, profile: args.profile, env: process.env, flags: args.flags })
}

function report(error: unknown): number {
  if (error instanceof UsageError) {
    process.stderr.write(`keelplane: ${error.message}; see keelplane --help\n`)
    return EXIT.usage
  }
  if (error instanceof ConfigError) {
    process.stderr.write(`keelplane: ${error.message}\n`)
    return EXIT.config
  }
  const message = error instanceof Error ? error.message : String(error)
  process.stderr.write(`keelplane: ${message}\n`)
  return isOccupied(error) ? EXIT.occupied : EXIT.failure
}

function isOccupied(error: unknown): boolean {
  const { code, cause, reason, metadata } = (error ?? {}) as {
    code?: unknown
    cause?: unknown
    reason?: unknown
    metadata?: { readonly pid?: string }
  }
  // The lock of the data directory says which process holds it.
  if (reason === "FAILED_PRECONDITION" && metadata?.pid !== undefined) return true
  return code === "EADDRINUSE" || (cause !== undefined && isOccupied(cause))
}
