/** Decimal quantities as text: exact, whatever their size. */

const QUANTITY = /^0*(\d+?)(?:\.(\d*?)0*)?$/

/** The one way to write a quantity: no leading zeros, no trailing zeros after the point, no point without digits after it. */
export function normalQuantity(text: string): string {
  const match = QUANTITY.exec(text)
  if (match === null) return text
  const [, whole = "0", fraction = ""] = match
  return fraction === "" ? whole : `${whole}.${fraction}`
}
