"use strict"

/** The longest time that a timer can wait. */
const LONGEST = 2 ** 31 - 1

/**
 * Runs `fn` while a lock is held, and gives the lock back whatever happens. As every call that has not been answered, it
 * keeps the process alive, also where `fn` waits for nothing but the end of its lock.
 *
 * @template T
 * @param {{ loss: Promise<never>, told: (error: unknown) => void }} hold
 * @param {() => Promise<unknown>} release gives the lock back
 * @param {() => T | Promise<T>} [fn]
 * @returns {Promise<T>} what `fn` resolves to; rejects with the loss as soon as the lock is lost, whatever `fn` still does
 */
async function guarded (hold, release, fn) {
    const alive = setInterval(() => {}, LONGEST)
    let result
    try {
        result = await Promise.race([ hold.loss, run(fn) ])
    }
    catch (error) {
        hold.told(error)
        // What `fn` threw, or the loss itself, says more than a failed release.
        await release().catch(() => {})
        throw error
    }
    finally {
        clearInterval(alive)
    }
    await release()
    return result
}

async function run (fn) {
    return fn?.()
}

module.exports = { guarded }
