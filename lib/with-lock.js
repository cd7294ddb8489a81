"use strict"

const lock = require("./lock.js")
const port = require("./port.js")
const settings = require("./settings.js")

/**
 * Runs a function under a lock, and releases that in every case.
 * @template T
 * @param {() => Promise<import("./lock.js").Lock>} acquire
 * @param {(lock: object) => T | PromiseLike<T>} fn
 * @param {(lock: object) => void} [check] throws why the lock that was acquired is over
 * @returns {Promise<T>}
 */
async function withLock (acquire, fn, check = lock.check) {
    const handle = await acquire()
    check(handle)
    let result
    // The call is pending until the lock is released: it keeps the process alive, whatever the function waits for.
    port.keepAlive()
    try {
        result = await fn(handle)
    }
    catch (error) {
        try {
            await handle.release()
        }
        catch (releaseError) {
            settings.attach(error, "releaseError", releaseError)
        }
        throw error
    }
    finally {
        port.letGo()
    }
    await handle.release()
    return result
}

module.exports = { withLock }
