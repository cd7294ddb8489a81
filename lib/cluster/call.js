"use strict"

const port = require("../port.js")

/** A question to the lock table with one answer. Keeps the process alive until then. */
class Call {
    #resolve
    #reject
    #unanswered

    /** @param {(why: Error) => Error | undefined} [unanswered] what the call rejects with if there will be no answer; undefined: it resolves */
    constructor (unanswered = (why) => why) {
        this.#unanswered = unanswered
        this.promise = new Promise((resolve, reject) => {
            this.#resolve = resolve
            this.#reject = reject
        })
        port.keepAlive()
    }

    done (value) {
        port.letGo()
        this.#resolve(value)
    }

    failed (error) {
        port.letGo()
        this.#reject(error)
    }

    /** There will be no answers any more. */
    ended (why) {
        const error = this.#unanswered(why)
        if (error === undefined)
            this.done()
        else
            this.failed(error)
    }
}

module.exports = { Call }
