"use strict"

const errors = require("../errors.js")
const port = require("../port.js")
const { microtask } = require("../timing.js")
const { Line } = require("./line.js")

let resolveIt, rejectIt
const capture = (resolve, reject) => {
    resolveIt = resolve
    rejectIt = reject
}

/** Those that were granted and have not been told, oldest first. */
const granted = new Line()
const tell = () => { granted.shift().tell() }

/**
 * What stands in for a `Request` where a thousand callers of one object wait for each other: an `acquire()` without options that waits for its own
 * object's hold, while nobody listens. Only `close()` can withdraw it. Its grant is told a microtask later, as a `Request` is concluded, when
 * the mutex may have been closed.
 */
class BareRequest {
    #resolve
    #reject

    constructor (session) {
        this.session  = session
        /** As in Request; the table knows only of one whose object's hold was stolen. */
        this.key      = 0
        this.ticket   = 0
        this.promise  = new Promise(capture)
        this.#resolve = resolveIt
        this.#reject  = rejectIt
        port.keepAlive()
    }

    granted (key) {
        port.letGo()
        this.session.beganBare(key)
        granted.push(this)
        microtask(tell)
        return true
    }

    get isAsked () {
        return true
    }

    failed (error) {
        port.letGo()
        this.#reject(error)
    }

    tell () {
        if (this.session.isOpen)
            this.#resolve()
        else
            this.#reject(errors.closed(this.session.id))
    }

    /** The mutex closes. */
    close () {
        port.letGo()
        this.tell()
    }
}

module.exports = { BareRequest }
