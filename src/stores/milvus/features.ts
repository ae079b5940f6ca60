/** What a server can, by the version that it tells when the daemon connects. */

/** See {@link serverFeatures}. */
export interface ServerFeatures {
  /** As the server says it, such as `2.3.5` or `lite-3.2.2`. */
  readonly version: string
  /** Values of filters travel beside the expression instead of inside it. */
  readonly templates: boolean
  /** A limited query answers the rows with the smallest keys, in order. */
  readonly orderedQueries: boolean
  /** Comparisons with a path into JSON mean exactly what ours mean, so that nobody has to look again. */
  readonly exactJson: boolean
  /** Words of a field can be looked up (`text_match`). */
  readonly textMatch: boolean
  /** `exists` is also true of what is empty, such as a list without elements or an object that has nothing but nulls. */
  readonly existsEmpty: boolean
  /** Characters beyond U+FFFF have to be escaped in literals: servers since 2.4 or 2.5 make others of the Chinese ones among them, or refuse them. */
  readonly wideEscapes: boolean
}

/** By version. What was not run is taken for the more careful choice. */
export function serverFeatures(version: string): ServerFeatures {
  const lite = /^milvus_lite-(.+)$/.exec(version)
  if (lite !== null) {
    const textMatch = Number.parseInt(lite[1] ?? "", 10) >= 3
    return {
      version: `lite-${lite[1]}`,
      templates: false,
      orderedQueries: false,
      exactJson: false,
      textMatch,
      existsEmpty: true,
      wideEscapes: false,
    }
  }
  const [, major = "0", minor = "0", patch = "0"] = /(\d+)\.(\d+)(?:\.(\d+))?/.exec(version) ?? []
  const number = Number(major) * 1_000 + Number(minor)
  return {
    version: `${major}.${minor}.${patch}`,
    templates: number >= 2_005,
    orderedQueries: true,
    exactJson: number === 2_003,
    textMatch: number >= 2_005,
    existsEmpty: number < 2_006,
    wideEscapes: true,
  }
}
