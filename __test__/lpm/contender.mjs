// Takes and releases a lock for ever, and fails if anybody else has it at the same time. Arguments: url, file of the witness.
import { readFileSync, writeFileSync } from "node:fs"
import { setImmediate as turn } from "node:timers/promises"
import Mutex from "../../index.js"

const [ , , url, witness ] = process.argv
const mutex = new Mutex(url, { label: "contender" })
await mutex.open()
for (let round = 1; ; round++) {
    const lock = await mutex.lock()
    const [ last ] = readFileSync(witness, "utf8").split(" ")
    const mine = `${lock.token} ${process.pid}`
    // A killed process may have left the file empty.
    if (last !== "" && BigInt(last) >= lock.token)
        throw new Error(`token ${lock.token} after ${last}`)
    writeFileSync(witness, mine)
    await turn()
    if (readFileSync(witness, "utf8") !== mine)
        throw new Error("two hold the lock")
    await lock.release()
    if (round % 50 === 0)
        process.send("on")
}
