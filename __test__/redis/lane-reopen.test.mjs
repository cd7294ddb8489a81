// Threads that close their last mutex of a server and open another, while other threads keep the lane.
import { test } from "node:test"
import { Mutex } from "../../index.mjs"
import { opened } from "../support/contenders.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { noLeftovers, redis } from "../support/servers.mjs"
import { lanedThread } from "./laned-thread.mjs"
import { warm } from "./lane.mjs"

watchLeaks()

/** Opens a mutex of the same server while the thread's last one closes, and uses it at once. */
async function change (t, server, before, id) {
    const after = new Mutex(server.url(id))
    const closing = before.close()
    const using = after.open().then(async () => {
        await after.acquire()
        await after.release()
    })
    const end = performance.now() + 3
    while (performance.now() < end) ; // so that the answers to both come together
    await Promise.all([ closing, using ])
    return after
}

test("a thread that closes its last mutex while it opens another goes on, and nothing stays locked", async (t) => {
    const server = await redis(t)
    const thread = lanedThread(t, server.url("other"), "holding")
    await thread.message("ready")
    let mutex = await opened(t, server.url("job-0"))
    for (let round = 1; round <= 10; round++) {
        await warm(mutex)
        mutex = await change(t, server, mutex, `job-${round % 3}`)
        t.after(() => mutex.close().catch(() => {}))
    }
    await warm(mutex) // the thread is in the lane again
    await mutex.close()
    await thread.terminate()
    await noLeftovers(server, { timeout: 40_000 })
})

test("many mutexes that open, work and close in any order in two threads leave nothing", async (t) => {
    const server = await redis(t)
    const thread = lanedThread(t, server.url("other"), "holding")
    await thread.message("ready")
    const flow = async (name) => {
        for (let round = 0; round < 25; round++) {
            const mutex = new Mutex(server.url(`${name}-${round % 2}`))
            await mutex.open()
            for (let pair = 0; pair < round % 4; pair++) {
                await mutex.acquire()
                if (pair % 2 === 0)
                    await mutex.release()
                else
                    break // closing gives it back
            }
            await mutex.close()
        }
    }
    await Promise.all([ "a", "b", "c" ].map(flow))
    await thread.terminate()
    await noLeftovers(server, { timeout: 40_000 })
})
