// Single calls, when the parent decides who does what at which time.
import { now } from "../harness/clock.mjs"

const locks = new Map()

async function lockOf (client, id) {
    if (!locks.has(id))
        locks.set(id, await client.lock(id))
    return locks.get(id)
}

/** Makes the lock where that takes a round trip; some floors need a first token to pass on. */
export async function prime ({ client, id, first }) {
    await lockOf(client, id)
    if (first)
        await client.prime?.(id)
}

/** @returns when it was granted */
export async function acquire ({ client, id }) {
    const lock = await lockOf(client, id)
    await lock.acquire()
    return now()
}

/** @returns when it was called */
export async function release ({ client, id }) {
    const lock = await lockOf(client, id)
    const left = now()
    await lock.release()
    return left
}
