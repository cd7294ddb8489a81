"use strict"

/**
 * What one mutex object has of a lock in one mode: nothing, or one hold that counts how often it was taken. This is how
 * a PostgreSQL session treats its own advisory locks.
 */
class Stack {
    #pool
    #shared
    #onlost
    #hold = null
    #count = 0
    /** A request on its way: whether it waits, what it resolves to, and how many calls it answers. */
    #request = null

    /**
     * @param {import("./pool.js").Pool} pool
     * @param {boolean} shared
     * @param {(hold: object, error: Error) => void} onlost called when a hold is lost
     */
    constructor (pool, shared, onlost) {
        this.#pool = pool
        this.#shared = shared
        this.#onlost = onlost
    }

    /** What is held, or null. */
    get hold () {
        return this.#hold
    }

    /** How often it was taken and not given back. */
    get count () {
        return this.#count
    }

    /**
     * Takes the lock once more.
     * @param {boolean} wait whether to wait for it
     * @returns {Promise<object | null>} the hold; null: taken by somebody else, and not to be waited for
     */
    async enter (wait) {
        if (this.#hold !== null) {
            this.#count++
            return this.#hold
        }
        if (this.#request !== null && this.#request.wait !== wait) {
            // Whoever waits is before us, and then we are not alone.
            if (!wait)
                return null
            await this.#request.answer.catch(() => {})
            return this.enter(wait)
        }
        this.#request ??= this.#ask(wait)
        this.#request.calls++
        return this.#request.answer
    }

    #ask (wait) {
        const request = { wait, calls: 0, answer: undefined }
        request.answer = this.#pool.take(this.#shared, wait).then((hold) => {
            this.#hold = hold
            this.#count = hold === null ? 0 : request.calls
            hold?.loss.catch((error) => this.#lose(hold, error))
            return hold
        }).finally(() => {
            this.#request = null
        })
        return request
    }

    /**
     * Gives the lock back once; the last time, the server hears of it.
     * @param {object} [hold] which hold is meant, for callers who may come when it has been lost
     * @returns {Promise<boolean>} false: there was nothing to give back
     */
    async leave (hold = this.#hold) {
        if (hold === null || hold !== this.#hold)
            return false
        if (--this.#count === 0) {
            this.#hold = null
            await hold.release()
        }
        return true
    }

    /** Gives everything back, however often it was taken. */
    async end () {
        await this.#request?.answer.catch(() => {})
        const hold = this.#hold
        this.#hold = null
        this.#count = 0
        await hold?.release()
    }

    #lose (hold, error) {
        if (hold === this.#hold) {
            this.#hold = null
            this.#count = 0
            hold.release().catch(() => {})
            this.#onlost(hold, error)
        }
    }
}

module.exports = { Stack }
