// A process that does with locks of its own manager what it is told, for the tests of what others see of it:
//   node process.mjs <url>
// Told { do: "hold", names, shared } it holds all of them and says "held"; told { do: "wait", names, shared }, it says "waiting" and goes on.
import { LockManager } from "../../index.mjs"

const locks = new LockManager(process.argv[2], { label: "other" })
const ends = []

const actions = {
    async hold ({ names, shared }) {
        for (let from = 0; from < names.length; from += 100)
            await Promise.all(names.slice(from, from + 100).map((name) => locks.lock(name, { shared })))
        process.send("held")
    },
    async wait ({ names, shared }) {
        // Each of them ends with the manager.
        ends.push(...names.map((name) => locks.lock(name, { shared }).catch(() => {})))
        process.send("waiting")
    },
    async close () {
        await locks.close()
        await Promise.all(ends)
        process.disconnect()
    }
}

process.on("message", (message) => actions[message.do](message).catch((error) =>
    process.send({ name: "failed", code: error.code, message: error.message })))
await locks.open()
process.send("ready")
