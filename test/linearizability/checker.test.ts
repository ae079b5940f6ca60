/** The checker of histories must find what is wrong, and only that. */
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { pathOf, skipReason } from "../support/tools.ts"
import { checkerTool, verdicts } from "./checker.ts"
import type { Operation } from "./history.ts"

const tool = await checkerTool()

type Line = Partial<Operation> & Pick<Operation, "op" | "call" | "return">

async function resultOf(kind: string, lines: readonly Line[]): Promise<string> {
  const history = lines.map((line, client) => ({
    kind,
    key: "k",
    client,
    applied: true,
    revision: 0,
    ...line,
  }))
  const [verdict] = await verdicts(pathOf(tool), history)
  return verdict?.result ?? ""
}

const ms = (count: number) => count * 1_000

/** Histories by what is wrong with them; the empty name is for those that are right. */
const HISTORIES: Readonly<Record<string, readonly (readonly [about: string, lines: readonly Line[]])[]>> = {
  stream: [
    [
      "",
      [
        { op: "append", expected: 0, value: "a", revision: 1, call: 0, return: 10 },
        { op: "append", expected: 0, value: "b", applied: false, revision: 1, call: 0, return: 10 },
        { op: "append", expected: 1, value: "c", call: 11, return: -1 },
        { op: "read", found: "a ", revision: 1, call: 12, return: 13 },
        { op: "read", found: "a c ", revision: 2, call: 14, return: 15 },
      ],
    ],
    [
      "two appends over one revision",
      [
        { op: "append", expected: 0, value: "a", revision: 1, call: 0, return: 10 },
        { op: "append", expected: 0, value: "b", revision: 1, call: 0, return: 10 },
      ],
    ],
    [
      "an acknowledged append that a later read does not see",
      [
        { op: "append", value: "a", revision: 1, call: 0, return: 10 },
        { op: "read", found: "", call: 11, return: 12 },
      ],
    ],
    [
      "an event that nobody was told of, twice",
      [
        { op: "append", value: "a", call: 0, return: -1 },
        { op: "read", found: "a a ", revision: 2, call: 11, return: 12 },
      ],
    ],
    [
      "an append that was refused as not applied, and is there",
      [{ op: "read", found: "a ", revision: 1, call: 11, return: 12 }],
    ],
  ],
  config: [
    [
      "",
      [
        { op: "put", expected: 0, value: "a", revision: 1, call: 0, return: 9 },
        { op: "put", expected: 0, value: "b", call: 3, return: -1 },
        { op: "get", found: "a", revision: 1, call: 10, return: 12 },
      ],
    ],
    [
      "versions that fork",
      [
        { op: "put", value: "a", revision: 1, call: 0, return: 9 },
        { op: "put", value: "b", revision: 1, call: 3, return: 9 },
      ],
    ],
    [
      "a read that goes back",
      [
        { op: "put", value: "a", revision: 1, call: 0, return: 2 },
        { op: "put", value: "b", revision: 2, call: 3, return: 9 },
        { op: "get", found: "a", revision: 1, call: 10, return: 12 },
      ],
    ],
  ],
  cache: [
    [
      "",
      [
        { op: "set", expected: 0, value: "a", call: 0, return: -1 },
        { op: "get", found: "", revision: 0, call: 1, return: 2 },
        { op: "get", found: "a", revision: 7, call: 3, return: 4 },
        { op: "set", expected: 7, value: "b", revision: 8, call: 5, return: 9 },
      ],
    ],
    [
      "two writes over one revision",
      [
        { op: "set", expected: 0, value: "a", revision: 3, call: 0, return: 9 },
        { op: "set", expected: 3, value: "b", revision: 4, call: 10, return: 19 },
        { op: "set", expected: 3, value: "c", revision: 5, call: 10, return: 19 },
      ],
    ],
  ],
  budget: [
    [
      "",
      [
        { op: "reserve", amount: 6, limit: 10, call: 0, return: 9 },
        { op: "reserve", amount: 6, limit: 10, applied: false, call: 0, return: 9 },
        { op: "get", revision: 6, call: 10, return: 11 },
        { op: "release", amount: 6, call: 12, return: 13 },
        { op: "get", revision: 0, call: 14, return: 15 },
      ],
    ],
    [
      "more reserved than there is",
      [
        { op: "reserve", amount: 6, limit: 10, call: 0, return: 9 },
        { op: "reserve", amount: 6, limit: 10, call: 0, return: 9 },
      ],
    ],
    [
      "a refusal although there is enough",
      [{ op: "reserve", amount: 6, limit: 10, applied: false, call: 0, return: 9 }],
    ],
  ],
  lock: [
    [
      "",
      [
        { op: "acquire", amount: ms(100), revision: 1, call: 0, return: ms(2) },
        { op: "acquire", amount: ms(100), applied: false, revision: 1, call: ms(3), return: ms(4) },
        { op: "acquire", amount: ms(100), revision: 2, call: ms(5), return: ms(140) },
        { op: "renew", expected: 1, amount: ms(100), applied: false, call: ms(141), return: ms(142) },
        { op: "release", expected: 2, call: ms(143), return: ms(144) },
        { op: "acquire", amount: ms(100), revision: 3, call: ms(145), return: ms(146) },
      ],
    ],
    [
      "two holders at a time",
      [
        { op: "acquire", amount: ms(100), revision: 1, call: 0, return: ms(2) },
        { op: "acquire", amount: ms(100), revision: 2, call: ms(3), return: ms(40) },
      ],
    ],
    [
      "a token that does not rise",
      [
        { op: "acquire", amount: ms(100), revision: 2, call: 0, return: ms(2) },
        { op: "release", expected: 2, call: ms(3), return: ms(4) },
        { op: "acquire", amount: ms(100), revision: 2, call: ms(5), return: ms(6) },
      ],
    ],
    [
      "a holder who renews what another one has by now",
      [
        { op: "acquire", amount: ms(100), revision: 1, call: 0, return: ms(2) },
        { op: "acquire", amount: ms(100), revision: 2, call: ms(110), return: ms(120) },
        { op: "renew", expected: 1, amount: ms(100), call: ms(121), return: ms(125) },
      ],
    ],
  ],
}

describe("the checker of histories", { skip: skipReason(tool) }, () => {
  for (const [kind, histories] of Object.entries(HISTORIES)) {
    for (const [about, lines] of histories) {
      it(about === "" ? `accepts a ${kind} in order` : `refuses a ${kind} with ${about}`, async () => {
        assert.equal(await resultOf(kind, lines), about === "" ? "linearizable" : "not linearizable")
      })
    }
  }

  it("says which operations it could not place", async () => {
    const lines = HISTORIES.config?.[1]?.[1] ?? []
    const history = lines.map((line, client) => ({
      kind: "config",
      key: "k",
      client,
      applied: true,
      revision: 0,
      ...line,
    }))
    const [verdict] = await verdicts(pathOf(tool), history)
    assert.equal(verdict?.stuck?.length, 1)
    assert.match(verdict?.stuck?.[0] ?? "", /"op":"put"/)
  })

  it("does not guess at lines that it cannot read", async () => {
    await assert.rejects(verdicts(pathOf(tool), []), /empty/)
    const stray = { kind: "unheard", key: "k", client: 0, op: "x", call: 0, return: 1 }
    await assert.rejects(verdicts(pathOf(tool), [{ ...stray, applied: true, revision: 0 }]), /no model/)
  })
})
