// Locks within one thread. Calls are too short to be timed one by one, so the whole is: in time of the processor, which is
// the same as on a clock as nothing ever waits, and which does not count what else the machine does.
import { Inside } from "../harness/exclusion.mjs"

/** Pairs until everything is compiled. */
const WARM_UP = 200_000

/** Nanoseconds that the processors have spent on this process, the collection of its garbage included. */
export function spent () {
    const { user, system } = process.cpuUsage()
    return (user + system) * 1e3
}

/** One caller, pair after pair, both calls awaited. @returns nanoseconds per pair */
export async function burst ({ client, count }) {
    const lock = await client.lock("bench")
    await loop(lock, WARM_UP)
    const begun = spent()
    await loop(lock, count)
    const pair = (spent() - begun) / count
    await prove(client, lock)
    return { pair }
}

async function loop (lock, count) {
    for (let done = 0; done < count; done++) {
        await lock.acquire()
        await lock.release()
    }
}

/** So many callers at once on one lock, each with its share of the pairs. @returns nanoseconds per pair */
export async function waiters ({ client, callers, count }) {
    const lock = await client.lock("bench")
    const all = (rounds) => Promise.all(Array.from({ length: callers }, () => loop(lock, rounds)))
    const rounds = Math.ceil(count / callers)
    await all(Math.min(rounds, WARM_UP / callers))
    const begun = spent()
    await all(rounds)
    const pair = (spent() - begun) / (rounds * callers)
    await prove(client, lock)
    return { pair }
}

/** Apart from the clock, with holds into which others could fall: fails if two are inside at once. */
async function prove (client, lock) {
    if (client.excludes === false)
        return
    const inside = new Inside()
    await Promise.all(Array.from({ length: 50 }, async () => {
        for (let round = 0; round < 20; round++) {
            await lock.acquire()
            inside.enter()
            await null
            inside.leave()
            await lock.release()
        }
    }))
}
