// Locks that others outside of the thread coordinate: each call is long enough to be timed by itself.
import { now, sleep } from "../harness/clock.mjs"
import { counting } from "../harness/profile.mjs"
import { percentile } from "../harness/statistics.mjs"

const WARM_UP = 200

/**
 * Pairs on one lock by one caller, back to back or with a pause before and a hold between (milliseconds).
 * @returns nanoseconds spent in acquire() and release(), the pause and the hold excepted
 */
export async function pairs ({ client, id = "bench", milliseconds, pause = 0, hold = 0, warmUp = WARM_UP, profile }) {
    const lock = await client.lock(id)
    for (let done = 0; done < (pause > 0 ? 20 : warmUp); done++) {
        await lock.acquire()
        await lock.release()
    }
    const times = [], holds = []
    const counted = counting(profile)
    const deadline = now() + milliseconds * 1e6
    while (now() < deadline) {
        if (pause > 0)
            await sleep(pause)
        const asked = now()
        await lock.acquire()
        const granted = now()
        if (hold > 0)
            await sleep(hold)
        const left = now()
        await lock.release()
        times.push(granted - asked + now() - left)
        holds.push(granted, left)
    }
    const usage = counted(times.length)
    return { p50: percentile(times, 0.5), p99: percentile(times, 0.99), holds: Float64Array.from(holds), usage }
}

/** One caller on each of many locks, all at once. @returns pairs per second in all */
export async function many ({ client, ids, milliseconds, profile }) {
    const locks = await Promise.all(Array.from({ length: ids }, (_, at) => client.lock(`bench-${at}`)))
    const all = async (duration) => {
        let count = 0
        const begun = now(), deadline = begun + duration * 1e6
        await Promise.all(locks.map(async (lock) => {
            while (now() < deadline) {
                await lock.acquire()
                await lock.release()
                count++
            }
        }))
        return { count, perSecond: count / (now() - begun) * 1e9 }
    }
    await all(milliseconds / 4)
    const counted = counting(profile)
    const { count, perSecond } = await all(milliseconds)
    return { perSecond, usage: counted(count) }
}

/** Pairs on one lock for a while, in competition with other processes. @returns this process' share and its holds */
export async function crowd ({ client, id = "bench-crowd", milliseconds, profile }) {
    const lock = await client.lock(id)
    const holds = []
    const counted = counting(profile)
    const begun = now(), deadline = begun + milliseconds * 1e6
    while (now() < deadline) {
        await lock.acquire()
        const granted = now()
        holds.push(granted, now())
        await lock.release()
    }
    return { begun, ended: now(), usage: counted(holds.length / 2), holds: Float64Array.from(holds) }
}
