// Many mutexes of one process on one server.
import { now } from "../harness/clock.mjs"

function memory () {
    globalThis.gc()
    globalThis.gc()
    return process.memoryUsage.rss()
}

let locks = []

/**
 * How many times as many are opened before the measuring of memory begins, and for it. The first thousands make the heap of V8 grow,
 * which any program does sooner or later, and by more at once than they need; what one more mutex costs shows in the mean of many. The
 * garbage of each thousand is collected before the next one, or it would count as the mutexes'.
 */
const BEFORE = 4, MEASURED = 4

/**
 * Opens so many, which is timed, and many more, whose memory is measured. Then holds so many of these until it is asked
 * with `count: 0`, which gives them back.
 * @returns milliseconds to open the first ones, and bytes of the process for each, open and held
 */
export async function thousand ({ client, count }) {
    if (count === 0) {
        // Some at a time: a server that writes each to its log would not be through with all of them before patience ends.
        for (let at = 0; at < locks.length; at += 50)
            await Promise.all(locks.slice(at, at + 50).map((lock) => lock.release()))
        return {}
    }
    // What the first one brings with it is not counted for the others.
    const first = await client.lock("bench-first")
    await first.acquire()
    await first.release()
    const open = (prefix) => Promise.all(Array.from({ length: count }, (_, at) => client.lock(`bench-${prefix}-${at}`)))
    const begun = now()
    const opened = await open("first")
    const time = (now() - begun) / 1e6
    for (let more = 1; more < BEFORE; more++) {
        memory()
        opened.push(...await open(`before-${more}`))
    }
    const before = memory()
    let idle
    for (let more = 0; more < MEASURED; more++) {
        opened.push(...locks = await open(`measured-${more}`))
        idle = memory()
    }
    const bytes = (idle - before) / MEASURED / count
    await Promise.all(locks.map((lock) => lock.acquire()))
    return { open: time, all: opened.length, bytes, heldBytes: bytes + (memory() - idle) / count }
}
