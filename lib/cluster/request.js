"use strict"

const port = require("../port.js")
const { MutexError } = require("../errors.js")
const { Hold } = require("../hold.js")

const WAITING = "waiting", HELD = "held", RELEASING = "releasing", WITHDRAWN = "withdrawn", OVER = "over"

/** Why there are no answers any more, unless it is known better. */
const CUT = "the connection to the cluster primary is closed, and with it every lock that it gave"

const lost = (why = CUT) => new MutexError("ERR_LOCK_LOST", `the lock was lost: ${why}`)

/** One request on the asking side, from the question to the end of its hold. Keeps the process alive while an answer is due. */
class Request {
    #state = WAITING
    #model
    #waiter
    #hold
    #settle

    constructor (number, model, waiter) {
        this.number = number
        this.#model = model
        this.#waiter = waiter
        model.way.asked++
        port.keepAlive()
    }

    /** @param {bigint} [token] */
    granted (token) {
        // One that was withdrawn on the way is given back by the table's side.
        if (this.#state !== WAITING)
            return
        this.#answered(HELD)
        port.letGo()
        const hold = this.#hold = new Hold(this.#model, this.number, this.#waiter.shared, token)
        hold.request = this
        this.#model.holds.add(hold)
        this.#waiter.granted(hold)
        this.#waiter = undefined
    }

    busy () {
        port.letGo()
        if (this.#answered(OVER))
            this.#waiter.busy()
    }

    failed (error) {
        port.letGo()
        if (this.#answered(OVER))
            this.#waiter.failed(error)
    }

    /** @returns {boolean} whether that was still waited for */
    #answered (state) {
        if (this.#state !== WAITING)
            return false
        this.#state = state
        this.#model.way.asked--
        return true
    }

    /** @returns {Promise<void>} when it has no lock and will get none */
    withdraw () {
        this.#answered(WITHDRAWN)
        this.#waiter = undefined
        return this.#answer()
    }

    /** @returns {Promise<void>} when the lock is free for others */
    release () {
        this.#state = RELEASING
        port.keepAlive()
        return this.#answer()
    }

    get isReleasing () {
        return this.#state === RELEASING
    }

    done () {
        port.letGo()
        this.#settle.resolve()
    }

    refused () {
        port.letGo()
        this.#settle.reject(lost("the cluster primary knows nothing of this hold"))
    }

    /** There will be no answers any more. */
    ended (error) {
        switch (this.#state) {
            case WAITING: return this.failed(error)
            case WITHDRAWN: return this.done()
            case RELEASING: port.letGo()
        }
        this.#model.holds.delete(this.#hold)
        const reason = lost(error.message)
        this.#settle?.reject(reason)
        this.#hold.lose(reason)
    }

    #answer () {
        return new Promise((resolve, reject) => {
            this.#settle = { resolve, reject }
        })
    }
}

/** A question with one answer. */
class Call {
    constructor () {
        this.promise = new Promise((resolve, reject) => {
            this.resolve = resolve
            this.reject = reject
        })
        port.keepAlive()
    }

    done (value) {
        port.letGo()
        this.resolve(value)
    }

    failed (error) {
        port.letGo()
        this.reject(error)
    }

    ended (error) {
        this.failed(error)
    }
}

module.exports = { CUT, lost, Request, Call }
