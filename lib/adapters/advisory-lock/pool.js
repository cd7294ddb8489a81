"use strict"

const { Mutex } = require("../../../index.js")

/** How long an open mutex that holds nothing waits for its next use, in milliseconds, before its connection is given back. */
const LINGER = 200

/**
 * Open mutexes of one lock, one for each hold. Without holds nothing stays open for long: neither a connection nor anything
 * that keeps the process alive.
 */
class Pool {
    #url
    #idle = []
    #timer

    /** @param {string} url of the lock */
    constructor (url) {
        this.#url = url
    }

    /**
     * Takes the lock.
     * @param {boolean} shared
     * @param {boolean} wait whether to wait for it
     * @returns {Promise<Hold | null>} null: taken, and not to be waited for
     * @throws {MutexError} as `open()` and `acquire()`
     */
    async take (shared, wait) {
        const mutex = this.#idle.pop() ?? await opened(this.#url)
        try {
            if (!wait && !await mutex.tryAcquire({ shared })) {
                this.#keep(mutex)
                return null
            }
            if (wait)
                await mutex.acquire({ shared })
        }
        catch (error) {
            this.#keep(mutex)
            throw error
        }
        return new Hold(mutex, () => this.#keep(mutex))
    }

    #keep (mutex) {
        this.#idle.push(mutex)
        clearTimeout(this.#timer)
        this.#timer = setTimeout(() => {
            for (const idle of this.#idle.splice(0))
                // Nothing is held there, and the connection's end is none of the caller's business.
                idle.close().catch(() => {})
        }, LINGER).unref()
    }
}

async function opened (url) {
    const mutex = new Mutex(url)
    await mutex.open()
    return mutex
}

/** A lock that was taken, until it is given back or lost. */
class Hold {
    /** Rejects when the lock is lost; never resolves, and may be left unheard. */
    loss
    /** Set by those who tell of a loss later: called when the caller has been told already. */
    ontold
    #mutex
    #over

    constructor (mutex, over) {
        this.#mutex = mutex
        this.#over = over
        this.loss = new Promise((_, reject) => {
            this.#lose = reject
        })
        this.loss.catch(() => {})
        mutex.once("lost", this.#lose)
    }

    #lose

    /** The caller hears of `error`, which may be the loss. */
    told (error) {
        this.ontold?.(error)
    }

    /** Gives the lock back, once; rejects with the loss if it was lost. */
    async release () {
        try {
            await this.#mutex.release()
        }
        finally {
            this.#mutex.off("lost", this.#lose)
            this.#over()
        }
    }
}

module.exports = { Pool }
