"use strict"

const native = require("../native.js")
const port = require("../port.js")
const credentials = require("../credentials.js")
const { MutexError } = require("../errors.js")
const lanes = require("./lane.js")
const snapshot = require("../snapshot.js")

/** How much a request insists; the numbers are those of src/binding/remote.rs. */
const TRY = 0, WAIT = 1, STEAL = 2

/**
 * A lock on a server: the addon's own thread does the work, this only passes calls and answers. What goes by the express lane
 * (lane.js) instead is answered in the same words.
 */
class RpmModel {
    /** @param {import("../session.js").Session} session */
    constructor (session, label, provide) {
        this.session = session
        this.label   = label
        this.provide = provide
        /** The addon's number of the function that says user and password. */
        this.number  = 0
        this.mutex   = 0
        this.lane    = undefined
    }

    disconnected () {
        this.session.tell("disconnect")
    }

    reconnected () {
        this.session.tell("reconnect")
    }

    async open () {
        port.enter()
        this.number = credentials.enter(this.provide)
        try {
            await port.call((number) => {
                this.mutex = native.remoteOpen(port.attach(), number, this.session.url, this.label, this.number, false)
                port.mutexes.set(this.mutex, this)
            })
        }
        catch (error) {
            port.mutexes.delete(this.mutex)
            credentials.leave(this.number)
            port.leave()
            throw error
        }
        this.lane = lanes.enter(native.laneOf(this.mutex))
    }

    /** @param {RpmModel} other is open at the same server */
    openWith (other) {
        port.enter()
        this.number = credentials.enter(this.provide)
        // Heard by nobody: it cannot fail.
        this.mutex = native.remoteOpen(port.attach(), 0, this.session.url, this.label, this.number, true)
        this.lane = lanes.enter(other.lane?.number ?? 0)
    }

    ask (request) {
        request.key = port.listen(new Asking(request))
        const attempt = request.steal ? STEAL : request.wait ? WAIT : TRY
        const way = native.remoteRequest(port.attach(), request.key, this.mutex, request.shared, attempt, request.fenced,
            this.lane?.line ?? 0)
        if (way !== undefined)
            this.lane?.go(way)
    }

    /**
     * A mutex that closes withdraws everything of it at once.
     * @returns {Promise<void> | undefined} when the server has no trace of the request any more, or a second has passed
     */
    cancel (request, isClosing) {
        port.forget(request.key)
        if (!isClosing)
            return port.call((number) => native.remoteCancel(port.attach(), number, request.key))
    }

    release (hold) {
        return new Promise((resolve, reject) => {
            port.listen(new Releasing(hold.key, resolve, reject), hold.key)
            port.keepAlive()
            const way = native.remoteRelease(port.attach(), hold.key, this.lane?.line ?? 0)
            if (way !== undefined)
                this.lane?.go(way)
        })
    }

    /** Ends the hold if its lease is over by the clock, whether or not the addon's word of that has been heard yet. */
    verify (hold) {
        if (native.remoteBelieved(port.attach(), hold.key))
            return
        port.forget(hold.key)
        hold.lose(new MutexError("ERR_LOCK_LOST", "the lock was lost: its lease is over, not renewed in time or ended by max_hold"))
    }

    async query () {
        return snapshot.parse(await port.call((number) => native.remoteQuery(port.attach(), number, this.mutex)))
    }

    /** Of all locks of the server. */
    async queryAll () {
        return snapshot.parseAll(await port.call((number) => native.remoteList(port.attach(), number, this.mutex)))
    }

    async close (holds) {
        for (const hold of holds)
            port.forget(hold.key)
        try {
            await port.call((number) => native.remoteClose(port.attach(), number, this.mutex))
        }
        finally {
            port.mutexes.delete(this.mutex)
            credentials.leave(this.number)
            this.lane?.leave()
            this.lane = undefined
            port.leave()
        }
    }
}

/* Who hears the addon's answers under the number of a request, one after the other. An answer that does not belong to the phase is nobody's. */

class Asking {
    constructor (request) {
        this.request = request
    }

    granted (token) {
        const { request } = this
        if (request.granted(request.key, token))
            port.listen(new Holding(request.hold), request.key)
    }

    busy () {
        port.forget(this.request.key)
        this.request.busy()
    }

    failed (error) {
        port.forget(this.request.key)
        this.request.failed(error)
    }
}

class Holding {
    constructor (hold) {
        this.hold = hold
    }

    /** What was granted is lost; a release that comes now says so itself. */
    lose (error) {
        port.forget(this.hold.key)
        this.hold.lose(error)
    }
}

class Releasing {
    constructor (number, resolve, reject) {
        this.number  = number
        this.resolve = resolve
        this.reject  = reject
    }

    done () {
        this.#over()
        this.resolve()
    }

    failed (error) {
        this.#over()
        this.reject(error)
    }

    lose (error) {
        this.failed(error)
    }

    #over () {
        port.forget(this.number)
        port.letGo()
    }
}

module.exports = { RpmModel }
