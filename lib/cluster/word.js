"use strict"

/*
 * The word of one lock in the memory that the table's process lends to all who ask it, so that a lock that nobody else wants
 * is taken and given back without a message. The rules, and why they hold, are in `src/local/lent.rs`.
 */

/** What stands beside the word: since when its holder has the lock, and the mark of one who has left. */
const SINCE = 1, MARK = 2

class Word {
    #memory
    #at
    #handle
    #sign
    #owner

    /**
     * @param {Int32Array} memory
     * @param {number} at where the word is
     * @param {number} handle what it says while this mutex holds the lock
     * @param {number} sign where the memory says whose requests are served
     * @param {number} owner what it says there as long as ours are
     */
    constructor (memory, at, handle, sign, owner) {
        this.#memory = memory
        this.#at     = at
        this.#handle = handle
        this.#sign   = sign
        this.#owner  = owner
    }

    /** Takes the lock if it is free and nobody waits for it. */
    take () {
        if (Atomics.compareExchange(this.#memory, this.#at, 0, this.#handle) !== 0)
            return false
        if (Atomics.load(this.#memory, this.#sign) !== this.#owner) {
            this.free()
            return false
        }
        // For people to read, so by the wall clock. 0 would mean that it is not known.
        // eslint-disable-next-line no-restricted-properties
        Atomics.store(this.#memory, this.#at + SINCE, Date.now() | 0 || 1)
        return true
    }

    /** Gives back what `take` took. False: the hold is in the table now. */
    free () {
        Atomics.store(this.#memory, this.#at + SINCE, 0)
        return Atomics.compareExchange(this.#memory, this.#at, this.#handle, 0) === this.#handle
    }

    /** Gives back an exclusive hold that is in the table; its process must be told to look. False: the hold was lost before. */
    leave () {
        for (;;) {
            const before = Atomics.load(this.#memory, this.#at + MARK)
            if (Atomics.load(this.#memory, this.#sign) !== this.#owner)
                return false
            if (Atomics.compareExchange(this.#memory, this.#at + MARK, before, this.#handle) === before)
                return true
        }
    }
}

/** Where no memory is lent: never free, and nothing to be left there. */
const NONE = new Word(Int32Array.of(-(2 ** 31), 0, 0), 0, 0, 0, 0)

module.exports = { Word, NONE }
