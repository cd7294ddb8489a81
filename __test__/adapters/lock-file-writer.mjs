// Takes the lock of a file again and again, and fails if anybody else has it at the same time. Arguments: package, file, how often.
import { createRequire } from "node:module"
import { readFileSync, writeFileSync } from "node:fs"
import { setImmediate as turn } from "node:timers/promises"

const [ , , name, file, times ] = process.argv
const lockfile = createRequire(import.meta.url)(name)
for (let count = 0; count < Number(times); count++) {
    const release = await lockfile.lock(file, { retries: { forever: true, minTimeout: 1, maxTimeout: 20 } })
    const before = Number(readFileSync(file, "utf8"))
    await turn()
    writeFileSync(file, String(before + 1))
    await release()
}
process.send("done")
process.disconnect()
