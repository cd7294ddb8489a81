"use strict"

const { MutexError } = require("../errors.js")

/** Stands in for a model that opens: requests wait here, in their order, until it is open or has failed. */
class Opening {
    #requests = new Set()

    /** @param {{ open(): Promise<void>, ask(request: object): void }} model */
    constructor (model) {
        this.model = model
    }

    ask (request) {
        this.#requests.add(request)
    }

    cancel (request) {
        this.#requests.delete(request)
    }

    /** The model is open, and the session's own from now on. */
    passOn () {
        for (const request of this.#requests)
            this.model.ask(request)
    }

    /** The model has not opened, because of `error`. */
    fail (error) {
        for (const request of [ ...this.#requests ])
            request.failed(error instanceof MutexError ? new MutexError(error.code, error.message, error.cause) : error)
    }
}

module.exports = { Opening }
