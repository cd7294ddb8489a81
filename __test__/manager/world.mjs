// What the tests of LockManager do again and again.
import { LockManager } from "../../index.mjs"

export { LockManager } from "../../index.mjs"
export { freshId as fresh, opened, rejection, watch } from "../conformance/world.mjs"

/** A manager that is closed with the test. */
export function manager (t, world, options) {
    const locks = new LockManager(world.url(""), options)
    t.after(() => locks.close())
    return locks
}

/** Resolves when this is what a signal says: when it has aborted. */
export function aborted (signal) {
    return new Promise((resolve) => {
        if (signal.aborted)
            resolve(signal.reason)
        else
            signal.addEventListener("abort", () => resolve(signal.reason), { once: true })
    })
}
