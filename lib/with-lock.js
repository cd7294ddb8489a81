"use strict"

const lock = require("./lock.js")
const port = require("./port.js")
const settings = require("./settings.js")

/**
 * Runs a function under a lock, and releases that in every case.
 * @template T
 * @param {() => Promise<import("./lock.js").Lock>} acquire
 * @param {(lock: object) => T | PromiseLike<T>} fn
 * @returns {Promise<T>}
 */
async function withLock (acquire, fn) {
    const handle = await acquire()
    lock.check(handle)
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
