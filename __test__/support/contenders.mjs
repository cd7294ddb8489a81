// Processes that contend for the locks of a server, and what the tests of each server wait for.
import { Mutex } from "../../index.mjs"
import { startChild } from "./children.mjs"
import { waitFor } from "./waiting.mjs"

/** A mutex that is open, and closed at the end of the test unless the test has done that. */
export async function opened (t, url) {
    const mutex = new Mutex(url)
    t.after(() => mutex.close().catch((error) => {
        if (error.code !== "ERR_NOT_OPEN")
            throw error
    }))
    await mutex.open()
    return mutex
}

/** A process (contender.mjs) that has opened the lock of `url`. */
export async function contender (t, url, ...args) {
    const child = await startChild(t, new URL("./contender.mjs", import.meta.url), [ url, ...args ])
    await child.message("ready", { timeout: 60_000 })
    return child
}

/** A process that holds the lock of `url`. */
export async function holder (t, url, options = {}) {
    const child = await contender(t, url)
    await child.send({ do: "lock", ...options })
    await child.message("held")
    return child
}

/** Lets a process free its lock. */
export async function freed (child) {
    await child.send({ do: "release" })
    await child.message("released")
}

/** Lets a process close its mutex and end. */
export async function ended (child) {
    await child.send({ do: "close" })
    await child.success()
}

/** Resolves when `count` wait for the lock, as the server and this process see it. */
export async function pending (mutex, count) {
    await waitFor(async () => (await mutex.query()).pending.length === count, { what: `${count} waiters` })
}
