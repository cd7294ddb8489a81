// The register that a torture's clients guard with their locks: one number for each lock, kept by a process that refuses old fencing tokens.
//   node register.mjs <socket> <log>
// A line of JSON asks: { number, id, owner, token, value }, without `value` to read; { number, value } answers, or { number, refused: true }.
// Every access that is let through is a line of the log: [ id, owner, token, value before, value written or null ].
import { createServer } from "node:net"
import { openSync, writeSync } from "node:fs"
import { createInterface } from "node:readline"

const [ , , path, file ] = process.argv
const log = openSync(file, "a")
/** By id: the value, and the largest token that has read or written. */
const cells = new Map()

function access ({ id, owner, token, value }) {
    let cell = cells.get(id)
    if (cell === undefined)
        cells.set(id, cell = { value: 0, written: -1n, seen: -1n })
    const given = BigInt(token)
    // Readers hold together, so an older one among them is not out of date before somebody has written.
    if (given < (value === undefined ? cell.written : cell.seen))
        return { refused: true }
    writeSync(log, `${JSON.stringify([ id, owner, token, cell.value, value ?? null ])}\n`)
    cell.seen = given > cell.seen ? given : cell.seen
    if (value !== undefined) {
        cell.value = value
        cell.written = given
    }
    return { value: cell.value }
}

createServer((socket) => {
    socket.on("error", () => {})
    const lines = createInterface({ input: socket })
    lines.on("error", () => {})
    lines.on("line", (line) => {
        let asked
        try {
            asked = JSON.parse(line)
        }
        catch {
            // The half line of a client that was killed.
            return
        }
        socket.write(`${JSON.stringify({ number: asked.number, ...access(asked) })}\n`)
    })
}).listen(path, () => process.send("listens"))
process.on("disconnect", () => process.exit())
