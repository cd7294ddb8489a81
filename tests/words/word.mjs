// Runs lib/cluster/word.js, or what is to stand for it, over histories:
//   node tests/words/word.mjs <file of the class> <file of histories>
// Prints for each history what it did to the memory, access by access; see tests/word_twin.rs.
import { readFileSync } from "node:fs"

/** More than any correct history has. */
const TOO_MANY = 100

const [ , , code, histories ] = process.argv
const source = readFileSync(code, "utf8")

function traced ({ memory, now, calls, changes }) {
    const words = Int32Array.from(memory), lines = []
    let accesses = 0
    const real = globalThis.Atomics
    // Every access is told, and others change the memory before it.
    const Atomics = new Proxy(real, {
        get: (_, name) => (_words, at, ...operands) => {
            for (const [ access, place, value ] of changes)
                if (access === accesses)
                    words[place] = value
            if (++accesses > TOO_MANY)
                throw new Error("it does not end")
            const result = real[name](words, at, ...operands)
            const said = name === "store" ? "" : ` -> ${result >>> 0}`
            lines.push(`${name} ${at} ${operands.map((each) => each >>> 0).join(" ")}`.trim() + said)
            return result
        }
    })
    const module = { exports: {} }
    new Function("module", "Atomics", "Date", source)(module, Atomics, { now: () => now })
    for (const [ call, ...word ] of calls)
        try {
            lines.push(`${call} = ${new module.exports.Word(words, ...word)[call]()}`)
        }
        catch (error) {
            lines.push(error.message)
        }
    return [ ...lines, [ ...words ].map((each) => each >>> 0).join(" ") ].join("; ")
}

process.stdout.write(JSON.parse(readFileSync(histories, "utf8")).map((history) => `${traced(history)}\n`).join(""))
