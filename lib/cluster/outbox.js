"use strict"

const { nextTick } = require("../timing.js")

/** Makes one frame of everything that is said in one turn of the event loop; a lone word leaves at the turn's end as well. */
class Outbox {
    #send
    #frame = null
    /** Whether this turn has an end of its own here already. */
    #scheduled = false
    /** Whether something urgent has left in this turn. */
    #urged = false
    /** What waits for the frame to leave. */
    #leaving
    #left

    /** @param {(frame: Array<number | string | null>) => void} send */
    constructor (send) {
        this.#send = send
    }

    /** @param {Array<number | string | null>} words a kind and its operands; the array is the outbox's from now on */
    post (words) {
        if (this.#frame === null)
            this.#frame = words
        else
            this.#frame.push(...words)
        this.#schedule()
    }

    /**
     * What others wait for: the first of a turn leaves at once, with all before it. Whoever said it may go on to compute for
     * long, and the turn end late.
     * @returns {Promise<void> | undefined} when it has left; undefined: it has
     */
    urge (words) {
        this.post(words)
        if (this.#urged)
            return this.#leaving ??= new Promise((resolve) => { this.#left = resolve })
        this.#urged = true
        this.#flush()
    }

    #schedule () {
        if (this.#scheduled)
            return
        this.#scheduled = true
        nextTick(turn, this)
    }

    turn () {
        this.#scheduled = this.#urged = false
        if (this.#frame !== null)
            this.#flush()
        if (this.#leaving !== undefined) {
            this.#left()
            this.#leaving = undefined
        }
    }

    #flush () {
        const frame = this.#frame
        this.#frame = null
        this.#send(frame)
    }
}

const turn = (outbox) => outbox.turn()

module.exports = { Outbox }
