// What two messages to the primary and back cost.
import cluster from "node:cluster"

if (cluster.isPrimary)
    cluster.on("message", (worker, message) => {
        if (message?.floor !== undefined)
            worker.send({ floor: message.floor })
    })

/** Two round trips of `process.send`. */
export function floor () {
    const waiting = []
    process.on("message", (message) => {
        if (message?.floor !== undefined)
            waiting.shift()()
    })
    const trip = () => new Promise((resolve) => {
        waiting.push(resolve)
        process.send({ floor: 1 })
    })
    return { excludes: false, lock: () => ({ acquire: trip, release: trip }) }
}
