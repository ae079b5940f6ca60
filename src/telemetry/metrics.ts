/**
 * A small Prometheus registry. What runs per call is a handle that was looked up before: incrementing it is a store into a
 * number. Series are bounded: what comes after the limit is counted under the label value `other`.
 */

const MAX_SERIES = 2_000

/** Seconds: from 50 microseconds, for most calls to an embedded engine take less than a millisecond. */
export const DURATION_BUCKETS = [
  0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
  30,
] as const

/** A number that only rises. */
export class Counter {
  value = 0
  /** Adds one, or `by`. */
  inc(by = 1): void {
    this.value += by
  }

  /** Takes over what was counted elsewhere. */
  countedTo(value: number): void {
    this.value = value
  }
}

/** A number that goes both ways. */
export class Gauge {
  value = 0
  /** Replaces the value. */
  set(value: number): void {
    this.value = value
  }
}

/** Observations counted by size. */
export class Histogram {
  readonly bounds: readonly number[]
  readonly counts: Float64Array
  sum = 0
  count = 0

  constructor(bounds: readonly number[] = DURATION_BUCKETS) {
    this.bounds = bounds
    this.counts = new Float64Array(bounds.length)
  }

  /** Counts one observation in the unit of the bounds. */
  observe(value: number): void {
    const { bounds, counts } = this
    for (let index = 0; index < bounds.length; index++) {
      if (value <= (bounds[index] as number)) {
        counts[index] = (counts[index] as number) + 1
        break
      }
    }
    this.sum += value
    this.count += 1
  }
}

type Metric = Counter | Gauge | Histogram

/** All series of one metric. */
export class Family<M extends Metric> {
  readonly name: string
  readonly help: string
  readonly type: "counter" | "gauge" | "histogram"
  readonly #labels: readonly string[]
  readonly #make: () => M
  readonly #series = new Map<string, { readonly labels: string; readonly metric: M }>()

  constructor(name: string, help: string, type: Family<M>["type"], labels: readonly string[], make: () => M) {
    this.name = name
    this.help = help
    this.type = type
    this.#labels = labels
    this.#make = make
  }

  /** The series with these label values, in the order the family names them. Keep it where it is used often. */
  with(...values: readonly string[]): M {
    const key = values.join("\u0000")
    const found = this.#series.get(key)
    if (found !== undefined) return found.metric
    if (this.#series.size >= MAX_SERIES && values.some((value) => value !== "other")) {
      return this.with(...values.map(() => "other"))
    }
    const labels = this.#labels
      .map((label, index) => `${label}="${escapeLabel(values[index] ?? "")}"`)
      .join(",")
    const metric = this.#make()
    this.#series.set(key, { labels, metric })
    return metric
  }

  /** Forgets every series, for gauges that are filled anew at each scrape. */
  clear(): void {
    this.#series.clear()
  }

  /** The family in the text format of Prometheus. */
  expose(): string {
    let text = `# HELP ${this.name} ${this.help}\n# TYPE ${this.name} ${this.type}\n`
    for (const { labels, metric } of this.#series.values()) {
      if (metric instanceof Histogram) {
        // Operations that nobody uses would be most of the text.
        if (metric.count > 0) text += exposeHistogram(this.name, labels, metric)
      } else text += `${this.name}${labels === "" ? "" : `{${labels}}`} ${metric.value}\n`
    }
    return text
  }
}

function exposeHistogram(name: string, labels: string, histogram: Histogram): string {
  const prefix = labels === "" ? "" : `${labels},`
  const suffix = labels === "" ? "" : `{${labels}}`
  let cumulative = 0
  let text = ""
  for (const [index, bound] of histogram.bounds.entries()) {
    cumulative += histogram.counts[index] ?? 0
    text += `${name}_bucket{${prefix}le="${bound}"} ${cumulative}\n`
  }
  text += `${name}_bucket{${prefix}le="+Inf"} ${histogram.count}\n`
  return `${text}${name}_sum${suffix} ${histogram.sum}\n${name}_count${suffix} ${histogram.count}\n`
}

function escapeLabel(value: string): string {
  return value.replace(/\\/g, "\\\\").replace(/"/g, '\\"').replace(/\n/g, "\\n")
}

/** Holds the families and renders them. */
export class MetricRegistry {
  readonly #families: Family<Metric>[] = []
  readonly #collectors: (() => void)[] = []

  /** A family of counters. */
  counter(name: string, help: string, labels: readonly string[] = []): Family<Counter> {
    return this.#add(new Family(name, help, "counter", labels, () => new Counter()))
  }

  /** A family of gauges. */
  gauge(name: string, help: string, labels: readonly string[] = []): Family<Gauge> {
    return this.#add(new Family(name, help, "gauge", labels, () => new Gauge()))
  }

  /** A family of histograms. */
  histogram(name: string, help: string, labels: readonly string[] = []): Family<Histogram> {
    return this.#add(new Family(name, help, "histogram", labels, () => new Histogram()))
  }

  /** Calls `collect` before each rendering, for gauges that are read rather than kept. */
  onCollect(collect: () => void): void {
    this.#collectors.push(collect)
  }

  /** The body of /metrics. */
  expose(): { readonly contentType: string; readonly body: string } {
    for (const collect of this.#collectors) collect()
    const body = this.#families.map((family) => family.expose()).join("")
    return { contentType: "text/plain; version=0.0.4; charset=utf-8", body }
  }

  #add<M extends Metric>(family: Family<M>): Family<M> {
    if (this.#families.some(({ name }) => name === family.name))
      throw new Error(`metric ${family.name} exists`)
    this.#families.push(family as unknown as Family<Metric>)
    return family
  }
}
