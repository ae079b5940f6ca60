/**
 * Cassandra's own jars from Maven, pinned by version and by one digest over all of them, in the cache of the tests. Needs a Java 17
 * and Maven; nothing is unpacked or configured here.
 */
import { execFile } from "node:child_process"
import { createHash } from "node:crypto"
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { promisify } from "node:util"
import { installed } from "../support/install.ts"
import { CACHE, type Tool } from "../support/tools.ts"

const run = promisify(execFile)

/** What can be had; tests that do not say otherwise run on the first. */
export type Release = "5.0" | "4.1"

interface Build {
  readonly version: string
  /** SHA-256 over the lines `<sha256>  <name>` of all jars, sorted by name. */
  readonly digest: string
}

const BUILDS: Readonly<Record<Release, Build>> = {
  "5.0": {
    version: "5.0.6",
    digest: "a7cbfa356e29ef493f4f4d66187317185aab38989a0df85333f4cce7759cb617",
  },
  "4.1": {
    version: "4.1.10",
    digest: "291f7939b9c1a7cf786fe2be76b4dffe65927e49dc8ae56b40e5d86c77e99d32",
  },
}
/** Libraries for other systems. */
const FOREIGN = /-(osx|windows)-.*\.jar$|-linux-(aarch_64|riscv64)\.jar$/
const PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:2.8:copy-dependencies"
const INSTALL_MS = 600_000

const pom = (version: string): string => `<?xml version="1.0" encoding="UTF-8"?>
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>local.test</groupId>
  <artifactId>cassandra-server</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.cassandra</groupId>
      <artifactId>cassandra-all</artifactId>
      <version>${version}</version>
    </dependency>
  </dependencies>
</project>
`

/** The Java program, or why there is none that Cassandra runs on. */
export async function java(): Promise<Tool> {
  const home = process.env.JAVA_HOME
  const path = home === undefined || home === "" ? "java" : join(home, "bin", "java")
  try {
    const { stderr, stdout } = await run(path, ["-version"], { timeout: 60_000 })
    const [, version] = /version "(\d+)/.exec(stderr + stdout) ?? []
    return version === "17" || version === "11"
      ? { path }
      : { missing: `Cassandra needs Java 17, not ${version ?? "an unknown one"}` }
  } catch {
    return { missing: "Cassandra needs Java 17, which is not installed" }
  }
}

/** The folder of a release's jars, or why they cannot be had. */
export async function cassandraJars(release: Release = "5.0"): Promise<Tool> {
  const { version } = BUILDS[release]
  const path = join(CACHE, `cassandra-${version}`)
  return installed(path, `Cassandra ${version} of Maven`, async (folder) => {
    const jars = join(folder, "jars")
    await download(folder, jars, BUILDS[release])
    return jars
  })
}

async function download(folder: string, into: string, build: Build): Promise<void> {
  const file = join(folder, "pom.xml")
  writeFileSync(file, pom(build.version))
  const args = ["-q", "-B", "-ntp", "-f", file, PLUGIN, "-DincludeScope=runtime", `-DoutputDirectory=${into}`]
  await run("mvn", args, { timeout: INSTALL_MS, maxBuffer: 1 << 26 })
  for (const name of readdirSync(into).filter((each) => FOREIGN.test(each))) rmSync(join(into, name))
  const digest = digestOf(into)
  if (digest !== build.digest) throw new Error(`the jars' digest is ${digest}, not ${build.digest}`)
}

function digestOf(folder: string): string {
  const lines = readdirSync(folder)
    .sort()
    .map((name) => {
      const sum = createHash("sha256")
        .update(readFileSync(join(folder, name)))
        .digest("hex")
      return `${sum}  ${name}\n`
    })
  return createHash("sha256").update(lines.join("")).digest("hex")
}
