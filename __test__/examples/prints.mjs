// Runs a program that says at its end what it prints, and compares:
//
//     // Prints:
//     //   a line; "…" stands for anything
import assert from "node:assert/strict"
import { startChild } from "../support/children.mjs"

/** The lines that `source` announces; none if it announces nothing. */
export function announced (source) {
    const [ , block ] = source.match(/^\/\/ Prints:\n((?:\/\/ {3}.*(?:\n|$))+)/m) ?? []
    return block === undefined ? [] : block.trimEnd().split("\n").map((line) => line.slice("//   ".length))
}

/** Fails unless `printed` is what `source` announces, line by line. */
export function matches (source, printed) {
    const lines = printed.trimEnd() === "" ? [] : printed.trimEnd().split("\n")
    const expected = announced(source)
    assert.equal(lines.length, expected.length, `announced:\n${expected.join("\n")}\nprinted:\n${printed}`)
    for (const [ index, line ] of expected.entries()) {
        const escaped = line.split("…").map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"))
        assert.match(lines[index], new RegExp(`^${escaped.join(".+")}$`))
    }
}

/**
 * Runs `file`, which must succeed within two minutes, say nothing on its error output and print what `source` announces.
 * @param {object} t the context of the test
 */
export async function runs (t, file, source, args = []) {
    const child = await startChild(t, file, args)
    await child.success({ timeout: 120_000 })
    assert.equal(child.stderr, "")
    matches(source, child.stdout)
}
