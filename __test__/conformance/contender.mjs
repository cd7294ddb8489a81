// A child program or worker thread that contends for locks and records what it saw.
// Arguments (JSON): { main, url, owner, rounds, objects, sharedEvery, fenced, cancelEvery, file }
import { createRequire } from "node:module"
import { parentPort, workerData } from "node:worker_threads"
import { History } from "../support/history.mjs"

const { main, url, owner, rounds, objects = 1, sharedEvery = 0, cancelEvery = 0, file } = workerData ?? JSON.parse(process.argv[2])
const Mutex = createRequire(import.meta.url)(main)
const history = new History({ file })
const say = (message, sent) => {
    if (parentPort)
        parentPort.postMessage(message)
    else
        process.send(message, sent)
}
let inside = false
/** How long it took to close, in milliseconds. */
let end = 0

async function contend (name) {
    const mutex = new Mutex(url)
    await mutex.open()
    const { id } = mutex
    for (let round = 0; round < rounds; round++) {
        const shared = sharedEvery > 0 && round % sharedEvery === 0
        const timeout = cancelEvery > 0 && round % cancelEvery === 1 ? round % 5 : undefined
        history.ask(id, name, { mode: shared ? "shared" : "exclusive" })
        let lock
        try {
            lock = await mutex.lock({ shared, timeout })
        }
        catch (error) {
            history.cancel(id, name)
            if (error.code !== "ERR_TIMEOUT")
                throw error
            continue
        }
        history.grant(id, name, { token: lock.token })
        if (!inside)
            say({ name: "inside" })
        inside = true
        // A hold that others can fall into: it gives the event loop away. Readers stay for as long as the slowest server takes to let
        // in the next one, so that they are inside together.
        await new Promise((resolve) => shared ? setTimeout(resolve, 10) : setImmediate(resolve))
        history.release(id, name)
        await lock.release()
    }
    const closing = performance.now()
    await mutex.close()
    end = Math.max(end, performance.now() - closing)
}

await Promise.all(Array.from({ length: objects }, (_, number) => contend(`${owner}/${number}`)))
history.close()
const last = { name: "history", history: history.toJSON(), end }
if (parentPort)
    say(last)
else {
    // A long history does not fit into the channel at once, and what has not left yet would be lost with it.
    await new Promise((resolve) => say(last, resolve))
    process.disconnect()
}
