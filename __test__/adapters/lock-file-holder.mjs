// Holds the lock of a file. Arguments: package, file, options as JSON. Says "held", then does as it is told.
import { createRequire } from "node:module"

const [ , , name, file, options ] = process.argv
const lockfile = createRequire(import.meta.url)(name)
let release = await lockfile.lock(file, JSON.parse(options))
const again = {
    release: async () => release(),
    lock: async () => { release = await lockfile.lock(file, JSON.parse(options)) },
    // Nothing runs on this thread any more.
    block: async () => {
        process.send("blocked")
        await new Promise(setImmediate)
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
    }
}
process.on("message", async (call) => {
    try {
        await again[call]()
        process.send("done")
    }
    catch (error) {
        process.send({ name: "failed", code: error.code })
    }
})
process.send("held")
