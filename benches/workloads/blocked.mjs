// A holder whose event loop stands still.
import { now, sleep } from "../harness/clock.mjs"

/** Holds the lock over a stretch of computing without end. @returns from when until when the holder believed in it */
export async function blockWhileHolding ({ client, id, milliseconds }) {
    const lock = await client.lock(id)
    await lock.acquire()
    // The event loop must live on for long enough to send it.
    await new Promise((sent) => process.send({ word: "held" }, sent))
    const from = now()
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds)
    const until = now()
    // A lock that is lost may take long to say so, or never do.
    await Promise.race([ Promise.resolve(lock.release()).catch(() => {}), sleep(500) ])
    return { from, until }
}
