/** Certificates for tests: an authority and what it signs, made by the machine's openssl for a few hours. */
import { execFile } from "node:child_process"
import { existsSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"
import { skipReason, type Tool } from "./tools.ts"

const run = promisify(execFile)
const hasOpenssl = (process.env.PATH ?? "")
  .split(":")
  .some((folder) => folder !== "" && existsSync(join(folder, "openssl")))
const tool: Tool = hasOpenssl ? { path: "openssl" } : { missing: "openssl is not on the PATH" }

/** False, or why tests that need certificates are skipped. */
export const certificatesSkip: string | false = skipReason(tool)

/** Files of a certificate and its key. */
export interface CertificateFiles {
  readonly certificate: string
  readonly key: string
}

/** An authority that can sign. */
export interface Authority {
  readonly folder: string
  /** The authority's own certificate. */
  readonly ca: string
  /** Signs a certificate for names such as `DNS:localhost` or `IP:127.0.0.1`. */
  sign(name: string, alternatives: readonly string[]): Promise<CertificateFiles>
}

/** Makes an authority in a folder of its own, which is the caller's to remove. */
export async function makeAuthority(): Promise<Authority> {
  const folder = mkdtempSync(join(tmpdir(), "keelplane-certificates-"))
  const ca = join(folder, "ca.pem")
  const caKey = join(folder, "ca.key")
  const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
  await run("openssl", [
    "req",
    "-x509",
    ...newKey,
    "-keyout",
    caKey,
    "-out",
    ca,
    "-days",
    "1",
    "-subj",
    "/CN=test authority",
  ])
  const sign = async (name: string, alternatives: readonly string[]): Promise<CertificateFiles> => {
    const [certificate, key, request, extensions] = ["pem", "key", "csr", "ext"].map((ending) =>
      join(folder, `${name}.${ending}`),
    ) as [string, string, string, string]
    const subject = alternatives.length === 0 ? "" : `subjectAltName=${alternatives.join(",")}\n`
    writeFileSync(extensions, `basicConstraints=CA:FALSE\n${subject}`)
    await run("openssl", ["req", "-new", ...newKey, "-keyout", key, "-out", request, "-subj", `/CN=${name}`])
    const by = ["-CA", ca, "-CAkey", caKey, "-CAcreateserial", "-days", "1", "-extfile", extensions]
    await run("openssl", ["x509", "-req", "-in", request, ...by, "-out", certificate])
    return { certificate, key }
  }
  return { folder, ca, sign }
}

/** The contents of a certificate's files, as TLS servers take them. */
export function contentsOf({ certificate, key }: CertificateFiles): {
  readonly cert: Buffer
  readonly key: Buffer
} {
  return { cert: readFileSync(certificate), key: readFileSync(key) }
}
